"""The figures: every one is measured here and now, through the engine's own workers."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import numpy as np

from conformance.cases.case import Case
from conformance.contract.mesh import Mesh
from conformance.evidence.evidence import Observations
from conformance.workers.jobs import CaseJob, MeasureJob
from conformance.workers.pool import Workers
from suites.pipeline.expected_bubble import bubble_share, live_microbatches
from suites.pipeline.laws import live
from suites.pipeline.schedule import COSTS, TICKS, WORK, timed
from suites.pipeline.schedules import SCHEDULES
from suites.pipeline.ticks import ticks

SECONDS = 300
CLASSES = {"gpipe": "GPipe", "1f1b": "OneFOneB", "interleaved": "Interleaved", "zb-h1": "ZeroBubble", "zbv": "ZBV"}
RANKS = 4
TIMED_RANKS = 2  # as many as this machine has cores: more would wait for each other's turn
MICROBATCHES = (4, 8, 16, 32)
TIMED = (2, 4, 8)
CUTS = {"as many layers each": "CutEvenly", "by cost model": "OneFOneB", "by measured times": "CutByTime"}


@dataclass(frozen=True, kw_only=True)
class Memory:
    """One schedule with so many microbatches on RANKS ranks.

    live         rank -> microbatches live at once, counted by chunk, as the papers say (ZBV: at most)
    planned      the same, counted in the timed schedule
    held         the same, counted while torch ran it
    kept_bytes   rank -> most bytes that autograd kept at once in torch
    slots        messages that the JAX program keeps at once
    peak_bytes   of the compiled JAX program, per device
    """

    schedule: str
    microbatches: int
    live: tuple[int, ...]
    planned: tuple[int, ...]
    held: tuple[int, ...]
    kept_bytes: tuple[int, ...]
    slots: int
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class Bubble:
    """Idle share of a schedule on TIMED_RANKS ranks: by formula, simulated at usual and at measured costs, measured."""

    schedule: str
    microbatches: int
    formula: float | None
    simulated: float
    simulated_at_measured: float
    measured: float


@dataclass(frozen=True, kw_only=True)
class Balance:
    """One way to cut the uneven model into TIMED_RANKS stages: seconds of work per rank and of a step, idle share."""

    cut: str
    rank_seconds: tuple[float, ...]
    step_seconds: float
    idle: float


def memory(workers: Workers, schedule: str, microbatches: int) -> Memory:
    planned = SCHEDULES[schedule](RANKS, microbatches)
    table, ranks = timed(planned), range(RANKS)
    where = f"m{microbatches}"
    seen = _watched(workers, CLASSES[schedule], where, RANKS)[-1]
    case, target = _case(where, RANKS), f"suites.pipeline.measure.quiet_jax:{CLASSES[schedule]}"
    result = workers.run(MeasureJob(case=case, framework="jax", target=target, repeats=1), SECONDS)
    assert result.measured is not None, result.reason
    assert result.measured.peak_bytes is not None
    return Memory(
        schedule=schedule,
        microbatches=microbatches,
        live=tuple(live_microbatches(schedule, RANKS, microbatches, rank) for rank in ranks),
        planned=tuple(live(table, rank) for rank in ranks),
        held=tuple(int(_value(seen, f"watched/held/{rank}")) for rank in ranks),
        kept_bytes=tuple(int(_value(seen, f"watched/bytes/{rank}")) for rank in ranks),
        slots=ticks(timed(planned, TICKS)).slots,
        peak_bytes=result.measured.peak_bytes,
    )


def bubble(workers: Workers, schedule: str, microbatches: int) -> Bubble:
    planned = SCHEDULES[schedule](TIMED_RANKS, microbatches)
    lanes = [_times(seen) for seen in _watched(workers, CLASSES[schedule], f"timed{microbatches}", TIMED_RANKS)]
    shortest = min(lanes, key=_span)  # another process may use a core for a while
    costs = {kind: _cost(shortest, number) for number, kind in enumerate(WORK)}
    return Bubble(
        schedule=schedule,
        microbatches=microbatches,
        formula=bubble_share(schedule, TIMED_RANKS, microbatches),
        simulated=timed(planned, COSTS).bubble(),
        simulated_at_measured=timed(planned, costs).bubble(),
        measured=_idle(shortest),
    )


def balance(workers: Workers, cut: str) -> Balance:
    lanes = [_times(seen) for seen in _watched(workers, CUTS[cut], "uneven", TIMED_RANKS)]
    shortest = min(lanes, key=_span)
    busy = tuple(float((lane[:, 4] - lane[:, 3]).sum()) for lane in shortest)
    return Balance(cut=cut, rank_seconds=busy, step_seconds=_span(shortest), idle=_idle(shortest))


# What the torch ranks saw.


def _case(contract: str, ranks: int) -> Case:
    mesh = Mesh(sizes=(("pipeline", ranks),))
    return Case(
        contract=f"suites.pipeline.measure.contracts:{contract}", implementation="measured", mesh=mesh, dtype="float32"
    )


def _watched(workers: Workers, name: str, contract: str, ranks: int) -> list[Observations]:
    """What a torch pipeline saw of itself, in every step but the first, which warms up."""
    case, target = _case(contract, ranks), f"suites.pipeline.measure.watched_torch:{name}"
    job = CaseJob(case=case, framework="torch", target=target, determinism=False, input_sensitivity=False, trace=False)
    result = workers.run(job, SECONDS)
    assert result.evidence is not None, result.reason
    return list(result.evidence.steps[1:])


def _value(seen: Observations, name: str) -> np.ndarray:
    [block] = seen[name].blocks
    return block.value


def _times(seen: Observations) -> list[np.ndarray]:
    """rank -> [work, (kind, stage, microbatch, start, end)], in seconds of one clock."""
    return [_value(seen, f"watched/times/{rank}") for rank in range(TIMED_RANKS)]


def _span(lanes: list[np.ndarray]) -> float:
    return float(max(lane[:, 4].max() for lane in lanes) - min(lane[:, 3].min() for lane in lanes))


def _idle(lanes: list[np.ndarray]) -> float:
    busy = sum(float((lane[:, 4] - lane[:, 3]).sum()) for lane in lanes)
    return 1 - busy / (_span(lanes) * len(lanes))


def _cost(lanes: list[np.ndarray], kind: int) -> float:
    """Median seconds of one kind of work; 0 where the schedule has none of it."""
    seconds = [float(row[4] - row[3]) for lane in lanes for row in lane if row[0] == kind]
    return median(seconds) if seconds else 0.0
