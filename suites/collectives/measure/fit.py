"""The network of emulated devices, fitted to messages by themselves: nothing of an algorithm goes into it.

Law: what a schedule takes on one memory is a sum of terms, each linear in one figure of the network, and a call takes
something besides; least squares of relative errors, and a figure that would be negative is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suites.collectives.algorithms import schedule
from suites.collectives.measure.timings import PROBES, Timing, probe
from suites.collectives.schedule import ALL_REDUCE, Schedule, in_one_program
from suites.collectives.topology.network import Link, SharedMemory
from suites.collectives.topology.prediction import seconds

FIGURES = 5  # of a shared memory


def shared_memory(ranks: int, figures: Sequence[float]) -> SharedMemory:
    """Seconds of a round, of a message of the busiest rank, of any message, of a byte of any, of a byte added."""
    latency, overhead, per_message, per_byte, combine = map(float, figures)
    return SharedMemory(
        ranks=ranks,
        overhead_seconds=overhead,
        combine_seconds_per_byte=combine,
        link=Link(latency_seconds=latency, seconds_per_byte=per_byte, seconds_per_message=per_message),
    )


def carried_out_by(framework: str, plan: Schedule) -> Schedule:
    """A schedule as the executor of a framework has it: JAX runs one program on all devices."""
    return in_one_program(plan) if framework == "jax" else plan


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One memory that all messages of so many devices go through, and what a call takes besides."""

    framework: str
    network: SharedMemory
    call_seconds: float

    def predicted(self, algorithm: str, operand_bytes: int) -> float:
        """Seconds of an all-reduce."""
        plan = carried_out_by(self.framework, schedule(algorithm, ALL_REDUCE, self.network.ranks))
        return self.call_seconds + seconds(plan, self.network, operand_bytes)


def fitted(timings: Sequence[Timing]) -> Fitted:
    """From the probes among the timings of one framework on one number of ranks."""
    probes = [timing for timing in timings if timing.algorithm in PROBES]
    terms = np.array([_terms(timing) for timing in probes])
    measured = np.array([timing.shortest_seconds for timing in probes])
    call, *figures = _positive(terms / measured[:, None], np.ones(len(probes)))
    return Fitted(framework=probes[0].framework, network=shared_memory(probes[0].ranks, figures), call_seconds=call)


def _terms(timing: Timing) -> list[float]:
    """1 for the call, and what the probe would take were one figure of the network 1 and all others 0."""
    plan = carried_out_by(timing.framework, probe(timing.ranks, timing.algorithm))
    units = (shared_memory(timing.ranks, unit) for unit in np.eye(FIGURES).tolist())
    return [1.0, *(seconds(plan, network, timing.operand_bytes) for network in units)]


def _positive(terms: np.ndarray, wanted: np.ndarray) -> list[float]:
    """Least squares; the most negative coefficient is left out until none is negative."""
    kept = list(range(terms.shape[1]))
    while True:
        solution, *_ = np.linalg.lstsq(terms[:, kept], wanted, rcond=None)
        if not len(kept) or solution.min() >= 0:
            break
        kept.pop(int(solution.argmin()))
    coefficients = [0.0] * terms.shape[1]
    for column, value in zip(kept, solution, strict=True):
        coefficients[column] = float(value)
    return coefficients
