"""Pipeline schedules as data: tables of what every rank of the pipeline axis does at which time.

stage        a consecutive part of the model; stages are numbered in the order of the forward pass
rank         place on the pipeline axis; it holds one stage or several (its chunks)
microbatch   a part of the rows of a batch, which passes the stages as a whole
live         a microbatch is live on a stage from its forward until nothing of it is needed any more

Two layers: a `Schedule` says what each rank computes, one thing after the other; `timed` gives every piece of work a
time, and puts the messages between ranks where they are due.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

FORWARD = "forward"
BACKWARD = "backward"  # gradients of inputs and of weights at once
INPUT_BACKWARD = "input_backward"
WEIGHT_BACKWARD = "weight_backward"
SEND = "send"
RECEIVE = "receive"
WORK = (FORWARD, BACKWARD, INPUT_BACKWARD, WEIGHT_BACKWARD)
ACTIVATION = "activation"
GRADIENT = "gradient"

# A backward pass costs about twice a forward pass, half of it for the inputs and half for the weights.
COSTS: Mapping[str, float] = {FORWARD: 1, BACKWARD: 2, INPUT_BACKWARD: 1, WEIGHT_BACKWARD: 1}
TICKS: Mapping[str, float] = dict.fromkeys(WORK, 1)


class ScheduleError(ValueError):
    """A schedule that cannot be carried out; the message is one sentence."""


@dataclass(frozen=True, kw_only=True, order=True)
class Work:
    """One piece of work of a rank: a kind, on one stage, for one microbatch."""

    kind: str
    stage: int
    microbatch: int

    def __str__(self) -> str:
        return f"{self.kind} of microbatch {self.microbatch} on stage {self.stage}"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One row of the table. Of a message: `what` is sent, to or from the rank `peer`, for the stage that needs it."""

    time: float
    rank: int
    kind: str
    stage: int
    microbatch: int
    what: str = ""
    peer: int | None = None

    @property
    def work(self) -> Work:
        return Work(kind=self.kind, stage=self.stage, microbatch=self.microbatch)

    def __str__(self) -> str:
        if self.kind in WORK:
            return f"{self.work} at {self.time:g} (rank {self.rank})"
        preposition = "to" if self.kind == SEND else "from"
        message = f"{self.kind} {self.what} of microbatch {self.microbatch} for stage {self.stage}"
        return f"{message} {preposition} rank {self.peer} at {self.time:g} (rank {self.rank})"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What each rank computes, one thing after the other, and which rank holds which stage.

    name          of the schedule
    holders       stage -> rank
    microbatches  how many
    lanes         rank -> its work in order
    """

    name: str
    holders: tuple[int, ...]
    microbatches: int
    lanes: tuple[tuple[Work, ...], ...]

    @property
    def stages(self) -> int:
        return len(self.holders)

    @property
    def ranks(self) -> int:
        return len(self.lanes)


@dataclass(frozen=True, kw_only=True)
class TimedSchedule:
    """A schedule with times and messages; `costs` are the units of time that each kind of work takes.

    Messages take no time: what is finished at a time is there for work that begins at that time.
    """

    schedule: Schedule
    events: tuple[Event, ...]
    costs: Mapping[str, float]

    @cached_property
    def lanes(self) -> tuple[tuple[Event, ...], ...]:
        """rank -> its events in the order in which it carries them out."""
        return tuple(tuple(e for e in self.events if e.rank == rank) for rank in range(self.schedule.ranks))

    @cached_property
    def last_uses(self) -> tuple[str, ...]:
        """Stage -> the kind of work that is the last one of a microbatch there."""
        split = {event.stage for event in self.events if event.kind == WEIGHT_BACKWARD}
        return tuple(WEIGHT_BACKWARD if stage in split else BACKWARD for stage in range(self.schedule.stages))

    @property
    def span(self) -> float:
        """Time from the first work to the end of the last."""
        return max((event.time + self.costs[event.kind] for event in self.events if event.kind in WORK), default=0)

    def busy(self, rank: int) -> float:
        """Time in which a rank works."""
        return sum(self.costs[event.kind] for event in self.lanes[rank] if event.kind in WORK)

    def bubble(self) -> float:
        """The share of all ranks' time in which they are idle."""
        return 1 - sum(map(self.busy, range(self.schedule.ranks))) / (self.span * self.schedule.ranks)


Product = tuple[str, int, int]  # (what, stage that needs it, microbatch)


def needs(work: Work) -> tuple[Product, ...]:
    """What must be there before a piece of work."""
    kind, stage, microbatch = work.kind, work.stage, work.microbatch
    if kind == FORWARD:
        return ((ACTIVATION, stage, microbatch),)
    if kind == WEIGHT_BACKWARD:
        return ((INPUT_BACKWARD, stage, microbatch),)
    return (FORWARD, stage, microbatch), (GRADIENT, stage, microbatch)


def gives(work: Work) -> tuple[Product, ...]:
    """What is there after a piece of work."""
    kind, stage, microbatch = work.kind, work.stage, work.microbatch
    if kind == FORWARD:
        return (FORWARD, stage, microbatch), (ACTIVATION, stage + 1, microbatch)
    if kind == WEIGHT_BACKWARD:
        return ()
    return (INPUT_BACKWARD, stage, microbatch), (GRADIENT, stage - 1, microbatch)


def given(schedule: Schedule) -> set[Product]:
    """What is there from the start: the inputs of the first stage, and the gradient that the last one begins with."""
    ends = ((ACTIVATION, 0), (GRADIENT, schedule.stages - 1))
    return {(what, stage, microbatch) for what, stage in ends for microbatch in range(schedule.microbatches)}


def timed(schedule: Schedule, costs: Mapping[str, float] = COSTS) -> TimedSchedule:
    """Every piece of work as early as its rank and what it needs allow; messages when what they carry is finished.

    Raises ScheduleError where work waits for something that never comes, or that its own rank does later.
    """
    start, end = _simulated(schedule, costs)
    events = [
        Event(time=start[work], rank=rank, kind=work.kind, stage=work.stage, microbatch=work.microbatch)
        for rank, lane in enumerate(schedule.lanes)
        for work in lane
    ]
    events += [event for work in start for event in _messages(schedule, work, end[work])]
    return TimedSchedule(schedule=schedule, events=tuple(sorted(events, key=_place)), costs=costs)


def _place(event: Event) -> tuple:
    """Messages before the work that begins at their time, and among themselves in one order for all ranks.

    That order is what makes blocking sends safe: of all messages that wait, the first one has both its ends free.
    """
    if event.kind in WORK:
        return (event.time, 1, event.rank, 0, 0, 0)
    sender, receiver = (event.rank, event.peer) if event.kind == SEND else (event.peer, event.rank)
    return (event.time, 0, sender, receiver, event.microbatch, event.what, event.kind == RECEIVE)


def _messages(schedule: Schedule, work: Work, time: float) -> Iterator[Event]:
    """The two ends of the message that carries the result of a piece of work to the next stage, if there is one."""
    step = {FORWARD: 1, BACKWARD: -1, INPUT_BACKWARD: -1}.get(work.kind, 0)
    stage, what = work.stage + step, ACTIVATION if step > 0 else GRADIENT
    if step == 0 or not 0 <= stage < schedule.stages:
        return
    sender, receiver = schedule.holders[work.stage], schedule.holders[stage]
    for kind, rank, peer in ((SEND, sender, receiver), (RECEIVE, receiver, sender)):
        yield Event(time=time, rank=rank, kind=kind, stage=stage, microbatch=work.microbatch, what=what, peer=peer)


def _simulated(schedule: Schedule, costs: Mapping[str, float]) -> tuple[dict[Work, float], dict[Work, float]]:
    """Work -> when it begins, work -> when it ends."""
    start: dict[Work, float] = {}
    end: dict[Work, float] = {}
    there = dict.fromkeys(given(schedule), 0.0)
    free, waiting = [0.0] * schedule.ranks, [list(reversed(lane)) for lane in schedule.lanes]
    while any(waiting):
        ready = [r for r, lane in enumerate(waiting) if lane and all(product in there for product in needs(lane[-1]))]
        if not ready:
            rank, work = next((rank, lane[-1]) for rank, lane in enumerate(waiting) if lane)
            raise ScheduleError(f"The schedule {schedule.name} never ends: rank {rank} waits with the {work}.")
        for rank in ready:
            work = waiting[rank].pop()
            start[work] = max(free[rank], *(there[product] for product in needs(work)))
            free[rank] = end[work] = start[work] + costs[work.kind]
            there.update(dict.fromkeys(gives(work), end[work]))
    return start, end
