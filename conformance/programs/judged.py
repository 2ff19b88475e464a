"""Judge drawn programs as `conformance.check` does, by workers that are kept, and again with an error planted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from conformance.cases.functions import Functions
from conformance.contract.mesh import Mesh
from conformance.inline.check import Posed
from conformance.programs.program import Program
from conformance.records.results import CaseResult
from conformance.runner.run import CaseRunner
from conformance.workers.pool import Workers

TOGETHER = 200  # programs by the same workers, which keep everything that they have ever imported
PATIENCE = 600.0  # seconds: here a time-out would be a finding about the machine


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A program, whether an error was planted, the verdict, and the largest error / bound of any tensor."""

    program: Program
    planted: bool
    passed: bool
    ratio: float
    said: str

    @property
    def rightly(self) -> bool:
        """A right program has passed; a planted error has failed by its size, not for another reason."""
        return not self.passed and self.ratio > 1 if self.planted else self.passed


def judged(programs: Sequence[Program], done: Callable[[Judged], None]) -> None:
    """Every program, and those in float64 with an error planted in one gradient as well."""
    for start in range(0, len(programs), TOGETHER):
        with Workers() as workers:
            for program in programs[start : start + TOGETHER]:
                for result in judge(program, workers):
                    done(result)


def judge(program: Program, workers: Workers) -> Iterator[Judged]:
    """The program as it is, then (in float64) with the error."""
    bench = CaseRunner(workers=workers, timeout_seconds=PATIENCE, bisect=False)
    with tempfile.TemporaryDirectory(prefix="shardproof-") as folder:
        posed = Posed(
            functions=_functions(program, Path(folder)),
            name=program.kind,
            mesh=Mesh.parse(program.mesh),
            dtype=program.dtype,
        )
        case, target = posed.within(Path(folder))
        yield _judged(program, bench.judge_case(case, target), planted=False)
        if program.dtype == "float64":
            fault = f"conformance.programs.planted:In{program.spoiled.upper()}"
            spoiled = bench.judge_case(replace(case, fault="planted"), replace(target, fault=fault))
            yield _judged(program, spoiled, planted=True)


def _functions(program: Program, folder: Path) -> Functions:
    code = folder / "program.py"
    code.write_text(program.source)
    parameters, batch = program.arrays()
    return Functions(
        framework=program.framework,
        reference=f"{code}:reference",
        candidate=f"{code}:candidate",
        parameters=parameters,
        batches=(batch,),
        roles={},
    )


def _judged(program: Program, result: CaseResult, *, planted: bool) -> Judged:
    ratios = [float(ratio) for check in result.checks for ratio in check.ratios.values()]
    failing = [f"{check.check}: {check.detail}" for check in result.checks if check.verdict == "fail"]
    return Judged(
        program=program,
        planted=planted,
        passed=result.verdict == "pass",
        ratio=max(ratios, default=0.0),
        said=" ".join([result.verdict, result.reason, *failing]).strip(),
    )
