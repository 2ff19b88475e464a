"""The command: draw, judge both frameworks side by side, count, write; status 1 where something was judged wrongly."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conformance.contract.implementation import FRAMEWORKS
from conformance.programs.judged import Judged, judged
from conformance.programs.program import drawn
from conformance.programs.table import counts, write, wrong
from conformance.records.formatting import seconds

COUNT = 2000
TOLD_EVERY = 50


def main(arguments: Sequence[str] | None = None) -> int:
    given = _given(arguments)
    results = _all_judged(given.count)
    write(results, given.folder)
    table = counts(results)
    alarms, caught = sum(count.false_alarms for count in table), sum(count.caught for count in table)
    programs, planted = sum(count.programs for count in table), sum(count.planted for count in table)
    print(f"{programs} right programs: {alarms} false alarms; {caught} of {planted} planted errors caught")
    return 1 if wrong(results) else 0


def _given(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance.programs", description=__doc__)
    parser.add_argument("folder", type=Path, help="where programs.json, programs.md and programs.svg are written")
    parser.add_argument("--count", type=int, default=COUNT, help="right programs, half of them in each framework")
    given = parser.parse_args(arguments)
    if given.count < 2:
        parser.error(f"--count {given.count}: give 2 or more, at least one for each framework.")
    return given


def _all_judged(count: int) -> list[Judged]:
    """So many right programs and the planted ones, both frameworks side by side, in the order of their seeds."""
    results: list[Judged] = []
    started = time.perf_counter()

    def done(result: Judged) -> None:
        results.append(result)
        if wrong([result]):
            print(
                f"judged wrongly: {result.program}{', planted' if result.planted else ''}: {result.said}",
                file=sys.stderr,
            )
        if len(results) % TOLD_EVERY == 0:
            print(f"{len(results)} judged in {seconds(time.perf_counter() - started)}", file=sys.stderr)

    with ThreadPoolExecutor(len(FRAMEWORKS)) as lanes:
        running = [lanes.submit(judged, drawn(count, framework), done) for framework in FRAMEWORKS]
        for lane in running:
            lane.result()
    return sorted(results, key=lambda result: (result.program.framework, result.program.seed, result.planted))


if __name__ == "__main__":
    sys.exit(main())
