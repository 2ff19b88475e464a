"""`python -m tests.reliability.soak FOLDER`: the same cases round after round in the same processes: what grows?

A round has standing cases and mutants of the suite of collectives in both frameworks, failures with their diagnosis.
Each round has another seed, so that nothing is answered from memory. Status 1 where something grows.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import psutil

from conformance.cases.case import Case
from conformance.cases.resolve import resolve
from conformance.cases.suite import suites
from conformance.contract.mesh import Mesh
from conformance.power.planted import mutants
from conformance.records.formatting import binary_bytes
from conformance.records.results import CaseResult
from conformance.runner.run import TIMEOUT_SECONDS, run
from conformance.workers.jobs import SitesJob
from conformance.workers.pool import Workers
from conformance.workers.worker_group import RENEWED_BYTES
from tests.reliability.soak_picture import draw

ROUNDS, ROUND = 20, 100
MESH = Mesh.parse("data=2,tensor=2")  # of mutants; standing cases have no more devices
EVERY = 20  # cases from one look to the next
SECONDS = 900.0  # until a case hangs: none does, and the machine may be busy
QUARTERS = 4
LARGEST_BYTES = 1.5 * RENEWED_BYTES  # of the JAX worker, while a case runs
ALLOWED = 1.1  # of the last quarter over the second; the first one starts what is needed


@dataclass(frozen=True, kw_only=True)
class Look:
    """After so many cases; bytes are resident, in torch of all ranks and the server, what they share counted once."""

    cases: int
    seconds: float
    cpu_seconds: float
    main_bytes: int
    jax_bytes: int
    torch_bytes: int
    handles: int
    processes: int
    threads: int


HELD = ("main_bytes", "handles", "processes", "threads")  # may not grow
BOUNDED = ("jax_bytes", "torch_bytes")  # a worker that has grown is renewed


class Watch:
    """Looks at this process and all that it has started."""

    def __init__(self) -> None:
        self.looks: list[Look] = []
        self.verdicts: dict[str, int] = {}
        self._started, self._cases, self._spent = time.monotonic(), 0, dict[int, float]()

    def count(self, result: CaseResult) -> None:
        self._cases += 1
        self.verdicts[result.verdict] = self.verdicts.get(result.verdict, 0) + 1
        if self._cases % EVERY == 0:
            with suppress(psutil.NoSuchProcess):  # one that is being replaced: the next look will do
                self.looks.append(self._look())
                print(self.looks[-1], file=sys.stderr, flush=True)

    def _look(self) -> Look:
        main = psutil.Process()
        workers = main.children(recursive=True)
        everything = [main, *workers]
        self._spent |= {process.pid: sum(process.cpu_times()[:2]) for process in everything}
        in_jax = [process for process in workers if "conformance.workers.jax_worker" in process.cmdline()]
        return Look(
            cases=self._cases,
            seconds=time.monotonic() - self._started,
            cpu_seconds=sum(self._spent.values()),
            main_bytes=main.memory_info().rss,
            jax_bytes=sum(process.memory_info().rss for process in in_jax),
            torch_bytes=sum(process.memory_full_info().pss for process in workers if process not in in_jax),
            handles=sum(process.num_fds() for process in everything),
            processes=len(everything),
            threads=sum(process.num_threads() for process in everything),
        )


def cases(workers: Workers, number: int) -> list[Case]:
    """Half of them standing cases, half mutants, of all contracts of a collective and both frameworks."""
    suite = suites()["collectives"]
    small = [case for case in suite.cases("full") if case.mesh.devices <= MESH.devices]
    standing = [case for case in small if "gradients" not in case.contract]  # those are whole models
    planted = [mutant for row in suite.mutated for case in row.cases() for mutant in _mutants(case, workers)]
    return [*_spread(standing, number // 2), *_spread(planted, number - number // 2)]


def _mutants(case: Case, workers: Workers) -> list[Case]:
    case, target = replace(case, mesh=MESH), resolve(case)
    listed = workers.run(SitesJob(case=case, framework=target.framework, target=target.path), TIMEOUT_SECONDS)
    return [planted.case for planted in mutants(case, listed) if planted.case.mutation]


def _spread(listed: Sequence[Case], number: int) -> list[Case]:
    """So many, evenly from a list that has at least as many."""
    return [listed[place * len(listed) // number] for place in range(number)]


def highest(looks: Sequence[Look], key: str, quarter: int, size: int) -> int:
    """Of a quarter of the rounds that are done; 0 is the first."""
    done = looks[-1].cases // size
    rounds = range(quarter * done // QUARTERS, (quarter + 1) * done // QUARTERS)
    return max(getattr(look, key) for look in looks if (look.cases - 1) // size in rounds)


def growth(looks: Sequence[Look], size: int) -> dict[str, float]:
    """The last quarter over the second, by what may grow."""
    return {key: highest(looks, key, QUARTERS - 1, size) / highest(looks, key, 1, size) for key in HELD + BOUNDED}


def grew(looks: Sequence[Look], size: int) -> bool:
    increases = growth(looks, size)
    return any(increases[key] > ALLOWED for key in HELD) or any(look.jax_bytes > LARGEST_BYTES for look in looks)


def page(watch: Watch, size: int) -> Iterator[str]:
    last, grown = watch.looks[-1], growth(watch.looks, size)
    verdicts = ", ".join(f"{number:,} {verdict}" for verdict, number in sorted(watch.verdicts.items()))
    yield "# A soak: what grows?\n"
    yield "Made by `python -m tests.reliability.soak results/reliability`: the same cases of the suite of collectives,"
    yield "half of them mutants with their diagnosis, in both frameworks, round after round in the same processes, each"
    yield f"round with another seed. {last.cases:,} of {ROUNDS * size:,} cases in {last.seconds:,.0f} s"
    yield f"({last.cpu_seconds:,.0f} of CPU):"
    yield f"{verdicts}. The highest of each quarter of the {last.cases // size} rounds:\n"
    yield "| | first | second | third | last | last over second |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for key in HELD + BOUNDED:
        figures = [highest(watch.looks, key, number, size) for number in range(QUARTERS)]
        told = [binary_bytes(figure) if key.endswith("bytes") else str(figure) for figure in figures]
        yield f"| {key.removesuffix('_bytes')} | {' | '.join(told)} | {grown[key]:.2f} |"
    yield f"\nOf `main`, handles, processes and threads more than {ALLOWED} is growth, which there must not be. Workers"
    yield f"keep what frameworks have compiled; above {binary_bytes(RENEWED_BYTES)} between two jobs they are renewed."
    yield "Memory is resident; `torch` are all ranks and the server that forks them, what they share counted once."
    yield "\n![memory and handles by case](soak.svg)\n"
    yield f"Measured {date.today()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}."


def write(watch: Watch, size: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"verdicts": watch.verdicts, "growth": growth(watch.looks, size), "looks": [*map(asdict, watch.looks)]}
    (folder / "soak.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (folder / "soak.md").write_text("\n".join(page(watch, size)) + "\n", encoding="utf-8")
    draw(watch.looks, size, folder / "soak.svg")


def main(folder: Path, size: int) -> int:
    """What is known is written after the fourth round, and after every other one."""
    watch = Watch()
    with Workers() as workers:
        chosen = cases(workers, size)
        for seed in range(ROUNDS):
            again = [replace(case, seed=seed) for case in chosen]
            run(again, workers=workers, on_result=watch.count, at_once=1, soonest=True, timeout_seconds=SECONDS)
            if seed + 1 >= QUARTERS:
                write(watch, size, folder)
    return 1 if grew(watch.looks, size) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else ROUND))
