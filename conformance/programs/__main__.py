"""The command: draw, judge both frameworks side by side, count, write; status 1 where something was judged wrongly."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conformance.programs.judged import Judged, judged
from conformance.programs.program import FRAMEWORKS, drawn
from conformance.programs.table import counts, write, wrong
from conformance.records.formatting import seconds

COUNT = 2000
TOLD_EVERY = 50


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.programs", description=__doc__)
    parser.add_argument("folder", type=Path, help="where programs.json, programs.md and programs.svg are written")
    parser.add_argument("--count", type=int, default=COUNT, help="right programs, half of them in each framework")
    given = parser.parse_args(arguments)
    if given.count < 2:
        parser.error(f"--count {given.count}: give 2 or more, at least one for each framework.")
    found, started = [], time.perf_counter()

    def done(one: Judged) -> None:
        found.append(one)
        if wrong([one]):
            print(f"judged wrongly: {one.program}{', planted' if one.planted else ''}: {one.said}", file=sys.stderr)
        if len(found) % TOLD_EVERY == 0:
            print(f"{len(found)} judged in {seconds(time.perf_counter() - started)}", file=sys.stderr)

    with ThreadPoolExecutor(len(FRAMEWORKS)) as lanes:
        running = [lanes.submit(judged, drawn(given.count, framework), done) for framework in FRAMEWORKS]
        for lane in running:
            lane.result()
    found.sort(key=lambda one: (one.program.framework, one.program.seed, one.planted))
    write(found, given.folder)
    table = counts(found)
    alarms, caught = sum(one.false_alarms for one in table), sum(one.caught for one in table)
    programs, planted = sum(one.programs for one in table), sum(one.planted for one in table)
    print(f"{programs} right programs: {alarms} false alarms; {caught} of {planted} planted errors caught")
    return 1 if wrong(found) else 0


if __name__ == "__main__":
    sys.exit(main())
