"""`shardproof fuzz`: cases of one implementation drawn at random, judged, and the smallest that fails."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.cases.case import Case
from conformance.cases.resolve import resolve
from conformance.cases.selection import Selection
from conformance.cases.usage import UsageError
from conformance.cli.results_folder import fresh
from conformance.cli.run import How, run

if TYPE_CHECKING:
    from conformance.fuzz.search import Fuzzed
    from conformance.records.results import CaseResult

REPRODUCTION = '''"""A case that fails, as small as it was made; passes when it is mended."""

import subprocess
import sys


def test_it_passes() -> None:
    case = {case!r}
    command = [sys.executable, "-m", "conformance.cli.main", "run", "--case", case]
    assert subprocess.run(command, check=False).returncode == 0
'''


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Whose cases are drawn, of which contracts (all that it honours, if none), for how long, from which seed."""

    implementation: str
    contracts: tuple[str, ...] = ()
    minutes: float = 5.0
    seed: int = 0


def fuzz(asked: Asked, *, output: Path | None, as_json: bool) -> int:
    """Draw and judge; the exit status is 1 if a case failed or none passed."""
    if not asked.minutes > 0:
        raise UsageError(f"{asked.minutes:g} minutes leave no time: give more than 0.")
    fuzzed = _searched(asked)
    if as_json:
        failing = None if fuzzed.failure is None else fuzzed.failure.case.id
        print(json.dumps({"verdicts": fuzzed.verdicts, "seconds": fuzzed.seconds, "failing": failing}))
    else:
        print(_sentence(asked, fuzzed))
    if fuzzed.failure is not None:
        _reproduced(fuzzed.failure, output or fresh(), as_json)
    return 0 if fuzzed.failure is None and fuzzed.verdicts.get("pass") else 1


def _searched(asked: Asked) -> Fuzzed:
    from conformance.fuzz.ground import MOST_DEVICES, grounds
    from conformance.fuzz.search import search
    from conformance.runner.run import CaseRunner
    from conformance.workers.pool import Workers

    drawn_from = grounds(asked.implementation, asked.contracts)
    with Workers(jax_devices=MOST_DEVICES) as workers:
        runner = CaseRunner(workers=workers, bisect=False)

        def judged(case: Case) -> CaseResult:
            result = runner.judge_case(case, resolve(case))
            print(f"{result.verdict:<12}{result.seconds:7.1f} s  {case.id}", file=sys.stderr)
            return result

        return search(drawn_from, judged, seconds=60 * asked.minutes, seed=asked.seed)


def _sentence(asked: Asked, fuzzed: Fuzzed) -> str:
    counted = ", ".join(f"{number} {verdict}" for verdict, number in sorted(fuzzed.verdicts.items())) or "none"
    said = f"{fuzzed.judged} drawn cases of {asked.implementation} in {fuzzed.seconds / 60:.1f} min: {counted}."
    return said if fuzzed.verdicts.get("pass") else f"{said} Nothing passed, so nothing is shown."


def _reproduced(failure: CaseResult, folder: Path, as_json: bool) -> None:
    """The smallest failing case once more, by itself, with its report and a test that is red until it is mended."""
    if not as_json:
        print(f"The smallest case that fails, run again by itself: {failure.case.id}")
    status = run(Selection(cases=(failure.case.id,)), How(as_json=as_json), output=folder, resume=None)
    if status == 0:
        print("By itself it passes: it fails only after earlier cases in the same worker.", file=sys.stderr)
    file = folder / "test_reproduction.py"
    file.write_text(REPRODUCTION.format(case=failure.case.id))
    print(f"A test that fails until it is mended: {file}", file=sys.stderr if as_json else sys.stdout)
