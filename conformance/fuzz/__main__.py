"""The command: fuzz registered implementations one after the other, and publish what came of it.

It resumes: an implementation that was fuzzed for so long from that seed without a failure is not fuzzed again. Status 1
if a case failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from conformance.cases.case import Case
from conformance.cases.resolve import resolve
from conformance.fuzz.ground import MOST_DEVICES, grounds
from conformance.fuzz.search import search
from conformance.fuzz.table import FuzzRun, add, read, run_of
from conformance.records.environment import packages
from conformance.records.results import CaseResult
from conformance.runner.run import CaseRunner
from conformance.workers.pool import Workers

OTHERS = (  # what is not written here, but by the frameworks
    "torch-dtensor", "torch-fsdp2", "torch-fsdp2_tensor", "torch-context_parallel", "torch-pipelining-gpipe",
    "torch-pipelining-1f1b", "torch-pipelining-interleaved", "torch-pipelining-looped-bfs",
    "torch-pipelining-interleaved-zb", "torch-pipelining-zbv", "torch-pipelining-dualpipev", "jax-automatic",
    "jax-explicit", "jax-mixed",
)  # fmt: skip
MINUTES = 4.0
PATIENCE = 300.0  # seconds for an answer: a time-out here would be a finding about the machine


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.fuzz", description=__doc__)
    parser.add_argument("folder", type=Path, help="where runs.jsonl and fuzz.md are written")
    parser.add_argument("implementations", nargs="*", default=OTHERS, help="those of the frameworks, if none is named")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of each")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_intermixed_args(arguments)
    if not given.minutes > 0:
        parser.error(f"--minutes {given.minutes:g} leave no time: give more than 0.")
    before = {(run.implementation, run.seed): run for run in _stood(given.folder, given.minutes)}
    failing = []
    for name in given.implementations:
        run = before.get((name, given.seed)) or fuzzed(name, given.minutes, given.seed, given.folder)
        print(f"{run.implementation}: {run.cases} cases, {run.verdicts}{f', {run.failing}' if run.failing else ''}")
        failing += [run] if run.failing else []
    return 1 if failing else 0


def _stood(folder: Path, minutes: float) -> list[FuzzRun]:
    """Runs of so many minutes in which nothing failed."""
    return [run for run in read(folder) if run.minutes >= minutes and not run.failing]


def fuzzed(name: str, minutes: float, seed: int, folder: Path) -> FuzzRun:
    """One implementation, on everything that it honours; what came of it is on the disk when this returns."""
    drawn_from = grounds(name)
    with Workers(jax_devices=MOST_DEVICES) as workers:
        runner = CaseRunner(workers=workers, bisect=False, timeout_seconds=PATIENCE)

        def judged(case: Case) -> CaseResult:
            result = runner.judge_case(case, resolve(case))
            print(f"{result.verdict:<12}{result.seconds:7.1f} s  {case.id}", file=sys.stderr, flush=True)
            return result

        outcome = search(drawn_from, judged, seconds=60 * minutes, seed=seed)
    run = run_of(name, len(drawn_from), seed, minutes, outcome, packages())
    add(run, folder)
    return run


if __name__ == "__main__":
    sys.exit(main())
