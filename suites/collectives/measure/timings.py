"""What is timed, and how it crosses from the process that times it: plain data."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from suites.collectives.algorithms import ALGORITHMS, schedule
from suites.collectives.schedule import ALL_REDUCE, Message, Schedule, ScheduleError

RANKS = (4, 8)
OPERAND_BYTES = tuple(2**n for n in range(10, 23, 3))  # of an all-reduce, on each rank: 1 KiB to 4 MiB
NATIVE = "native"
REPEATS = 15
# Messages by themselves: (to how many ranks each sender sends, are all ranks senders, is it added, rounds).
PROBES = {
    "a pair, 8 times": (1, False, False, 8),
    "round a ring": (1, True, False, 1),
    "round a ring, 8 times": (1, True, False, 8),
    "round a ring, added 8 times": (1, True, True, 8),
    "to three": (3, True, False, 1),
}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one collective by one algorithm; the median of several runs, and the shortest of them."""

    framework: str
    ranks: int
    algorithm: str  # or `native`, or one of the probes
    operand_bytes: int
    seconds: float
    shortest_seconds: float


def probe(ranks: int, name: str) -> Schedule:
    """Rounds in which ranks send their own block to the next ones and nothing else happens: what a message takes."""
    fan_out, all_send, adds, rounds = PROBES[name]
    messages = tuple(
        Message(source=rank, destination=(rank + distance) % ranks, blocks=(rank,), adds=adds)
        for distance in range(1, fan_out + 1)
        for rank in range(ranks if all_send else 1)
    )
    return Schedule(collective="message", ranks=ranks, blocks=ranks, rounds=(messages,) * rounds)


def schedules(ranks: int) -> dict[str, Schedule]:
    """Messages by themselves, and an all-reduce by every algorithm that has one for so many ranks."""
    plans = {name: probe(ranks, name) for name in PROBES}
    for algorithm in ALGORITHMS:
        try:
            plans[algorithm] = schedule(algorithm, ALL_REDUCE, ranks)
        except ScheduleError:
            continue
    return plans


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """(median, shortest) seconds; the first two runs, which compile and warm up, do not count."""
    durations = []
    for _ in range(REPEATS + 2):
        started = time.perf_counter()
        run()
        durations.append(time.perf_counter() - started)
    return statistics.median(durations[2:]), min(durations[2:])


def written(timings: list[Timing]) -> str:
    return json.dumps([asdict(timing) for timing in timings])


def read(text: str) -> list[Timing]:
    return [Timing(**row) for row in json.loads(text)]
