"""A timed schedule in lockstep: what every rank does in every tick, and in which slots it keeps what it received.

All ranks of one program advance together: in a tick each does one piece of work at most, then all messages move by one
rank, up or down the pipeline axis, or stay where they are. A slot holds one activation or gradient from its arrival
until its last use: how many there must be is what a schedule costs in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from suites.pipeline.schedule import (
    ACTIVATION,
    BACKWARD,
    FORWARD,
    GRADIENT,
    INPUT_BACKWARD,
    RECEIVE,
    SEND,
    WEIGHT_BACKWARD,
    WORK,
    Event,
    Product,
    TimedSchedule,
)

UP, DOWN, STAY = "up", "down", "stay"
ROUTES = (UP, DOWN, STAY)
USES = {  # what each kind of work reads
    FORWARD: (ACTIVATION,),
    BACKWARD: (ACTIVATION, GRADIENT),
    INPUT_BACKWARD: (ACTIVATION, GRADIENT),
    WEIGHT_BACKWARD: (ACTIVATION, GRADIENT),
}


@dataclass(frozen=True, kw_only=True)
class Ticks:
    """The table, one array [ticks, ranks] of whole numbers per column.

    work                   index into `branches`
    microbatch             of the work
    activation, gradient   slots that the work reads
    send_up, send_down,    1 where the result of the work leaves that way
    send_stay
    from_up, from_down,    slot in which what arrives is kept; `slots` (one past the last) where nothing is
    from_stay
    """

    columns: Mapping[str, np.ndarray]
    branches: tuple[tuple[str, int], ...]  # (kind, stage); ("", -1) is idle
    slots: int

    @property
    def number(self) -> int:
        return len(self.columns["work"])


def ticks(table: TimedSchedule) -> Ticks:
    """The timed schedule, whose work takes one unit of time each, in lockstep."""
    ranks, number = table.schedule.ranks, int(table.span)
    kept = [slots_of(table, rank) for rank in range(ranks)]
    slots = max((1 + max(slot_of.values(), default=-1) for slot_of in kept), default=0)
    branches = (("", -1), *dict.fromkeys((e.kind, e.stage) for e in table.events if e.kind in WORK))
    names = ["work", "microbatch", "activation", "gradient", *(f"send_{r}" for r in ROUTES)]
    columns = {name: np.zeros((number, ranks), np.int32) for name in names}
    columns |= {f"from_{route}": np.full((number, ranks), slots, np.int32) for route in ROUTES}
    for event in table.events:
        if event.kind in WORK:
            at = int(event.time), event.rank
            columns["work"][at], columns["microbatch"][at] = branches.index((event.kind, event.stage)), event.microbatch
            for what in USES[event.kind]:
                columns[what][at] = kept[event.rank].get((what, event.stage, event.microbatch), 0)
        else:
            at, route = (int(event.time) - 1, event.rank), _route(event, ranks)
            slot = kept[event.rank].get((event.what, event.stage, event.microbatch), slots)
            columns[f"send_{route}" if event.kind == SEND else f"from_{route}"][at] = 1 if event.kind == SEND else slot
    return Ticks(columns=columns, branches=branches, slots=slots)


def _route(event: Event, ranks: int) -> str:
    """Which way a message goes: up is from rank r to r + 1."""
    sender, receiver = (event.rank, event.peer) if event.kind == SEND else (event.peer, event.rank)
    assert sender is not None
    assert receiver is not None
    return {0: STAY, 1: UP}.get((receiver - sender) % ranks, DOWN)


def slots_of(table: TimedSchedule, rank: int) -> dict[Product, int]:
    """The slot of everything that a rank receives; one is used again when what was in it has been used last."""
    free: list[int] = []
    slots: dict[Product, int] = {}
    used = 0
    for event in table.lanes[rank]:
        if event.kind == RECEIVE:
            product = (event.what, event.stage, event.microbatch)
            slots[product] = free.pop() if free else used
            used = max(used, slots[product] + 1)
        elif event.kind in WORK:
            free += [slots[product] for product in _done_with(event, table) if product in slots]
    return slots


def _done_with(event: Event, table: TimedSchedule) -> Iterator[Product]:
    """What nothing needs after this work: a gradient of weights, where there is one, comes last."""
    if event.kind == table.last_uses[event.stage]:
        yield ACTIVATION, event.stage, event.microbatch
        yield GRADIENT, event.stage, event.microbatch
