"""The network of emulated devices, fitted to messages by themselves: nothing of an algorithm goes into it.

Law: seconds = call + round x rounds + begun x messages of a sender + passed x messages of all + bytes of all messages x
seconds per byte + bytes added by a rank x seconds per byte; least squares of relative errors, and a coefficient that
would be negative is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suites.collectives.algorithms import schedule
from suites.collectives.measure.timings import PROBES, Timing
from suites.collectives.schedule import ALL_REDUCE
from suites.collectives.topology.network import Link, SharedMemory
from suites.collectives.topology.prediction import seconds


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One memory that all messages of so many devices go through, and what a call takes besides."""

    framework: str
    network: SharedMemory
    call_seconds: float

    def predicted(self, algorithm: str, operand_bytes: int) -> float:
        """Seconds of an all-reduce."""
        plan = schedule(algorithm, ALL_REDUCE, self.network.ranks)
        return self.call_seconds + seconds(plan, self.network, operand_bytes)


def fitted(timings: Sequence[Timing]) -> Fitted:
    """From the probes among the timings of one framework on one number of ranks."""
    probes = [timing for timing in timings if timing.algorithm in PROBES]
    terms = np.array([_terms(timing) for timing in probes])
    measured = np.array([timing.shortest_seconds for timing in probes])
    call, latency, overhead, per_message, per_byte, combine = _positive(terms / measured[:, None], np.ones(len(probes)))
    network = SharedMemory(
        ranks=probes[0].ranks,
        overhead_seconds=overhead,
        combine_seconds_per_byte=combine,
        link=Link(latency_seconds=latency, seconds_per_byte=per_byte, seconds_per_message=per_message),
    )
    return Fitted(framework=probes[0].framework, network=network, call_seconds=call)


def _terms(timing: Timing) -> list[float]:
    fan_out, all_send, adds, rounds = PROBES[timing.algorithm]
    messages = rounds * fan_out * (timing.ranks if all_send else 1)
    block = timing.operand_bytes / timing.ranks
    return [1.0, rounds, rounds * fan_out, messages, messages * block, rounds * block if adds else 0.0]


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
