"""The command: core of every suite on emulated devices and on a single one, in JAX.

The suite with the fewest cases comes first. It goes on where it stopped. Status 1 where a verdict differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from conformance.agreement.compared import Compared, Judged
from conformance.agreement.table import read, write
from conformance.cases.case import Case
from conformance.cases.resolve import resolve
from conformance.cases.selection import Selection, select
from conformance.cases.suite import suites
from conformance.cases.usage import choose
from conformance.runner.run import CaseRunner
from conformance.workers.pool import Workers

PATIENCE = 300.0  # seconds for an answer: a time-out here would be a finding about the machine


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.agreement", description=__doc__)
    parser.add_argument("folder", type=Path, help="where cases.jsonl and single.md are written")
    parser.add_argument("suites", nargs="*", help="all, if none is named")
    given = parser.parse_args(arguments)
    core = _core()
    wanted = [choose("suite", name, tuple(core)) for name in given.suites] or list(core)
    compared = read(given.folder)
    done = {comparison.case for comparison in compared}
    left = [case for name in wanted for case in core[name] if case.id not in done]
    with Workers(jax_devices=max((case.mesh.devices for case in left), default=1)) as workers:
        runner = CaseRunner(workers=workers, bisect=False, timeout_seconds=PATIENCE)
        for case in left:
            compared.append(_compared(runner, case))
            write(compared, {name: len(cases) for name, cases in core.items()}, given.folder)
            print(f"{_said(compared[-1])}  {case.id}", file=sys.stderr, flush=True)
    return 1 if any(not comparison.alike and not comparison.refused for comparison in compared) else 0


def _core() -> dict[str, list[Case]]:
    """Suite -> its cases, those of a contract side by side, since they share a reference."""
    selected = {name: select(Selection(suites=(name,), framework="jax", profile="core")) for name in suites()}
    ordered = sorted(selected.items(), key=lambda item: len(item[1]))
    return {name: sorted(cases, key=lambda case: (case.contract, case.dtype, case.id)) for name, cases in ordered}


def _compared(runner: CaseRunner, case: Case) -> Compared:
    emulated, single = (Judged.of(runner.judge_case(on, resolve(on))) for on in (case, replace(case, devices="single")))
    return Compared(case=case.id, emulated=emulated, single=single)


def _said(comparison: Compared) -> str:
    took = f"{comparison.emulated.seconds:6.1f} s {comparison.single.seconds:6.1f} s"
    return f"{comparison.emulated.verdict:<12}{comparison.single.verdict:<12}{took}"


if __name__ == "__main__":
    sys.exit(main())
