"""`shardproof run`: judge cases, record each one, write the report, say what came out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance import environment
from conformance.applicability import chosen, may_apply
from conformance.cases import Case, suites
from conformance.checks import Check
from conformance.contract import Contract
from conformance.plan import DEFAULT_PROFILE, Selection, reproduce, select
from conformance.progress import progress_for
from conformance.recorder import RESULTS, Recorder, read
from conformance.records import CaseRecord, RunRecord
from conformance.results import CaseResult, overhead
from conformance.usage import UsageError

if TYPE_CHECKING:
    from conformance.run import Totals


def run(wanted: Selection, *, checks: Sequence[str], output: Path | None, resume: Path | None, as_json: bool) -> int:
    """Run what was asked for; the exit status."""
    if resume is not None:
        wanted, checks = _resumed(wanted, checks, resume, output)
    judged_by = chosen(checks)
    cases = _judgeable(select(wanted), judged_by if checks else ())
    _check_parameters(cases)
    recorder = Recorder(
        resume or output or _fresh_directory(), _run_record(wanted, checks, cases), resume=resume is not None
    )
    for complaint in recorder.complaints:
        print(complaint, file=sys.stderr)
    _execute([case for case in cases if case.id not in recorder.done], recorder, judged_by, checks, as_json)
    return _conclude(recorder, as_json)


def _resumed(
    wanted: Selection, checks: Sequence[str], resume: Path, output: Path | None
) -> tuple[Selection, Sequence[str]]:
    """The selection to go on with: that of the earlier run, unless another one is given."""
    if output is not None and output != resume:
        raise UsageError(f"--resume {resume} writes to that same directory: leave out --output {output}.")
    earlier = read(resume).run
    if wanted != Selection():
        return wanted, checks
    stored = {key: value for key, value in earlier.selection.items() if key in asdict(wanted)}
    return replace(wanted, **stored | {"suites": tuple(stored.get("suites", ()))}), checks or earlier.checks


def _judgeable(cases: list[Case], checks: Sequence[Check]) -> list[Case]:
    """Without the cases to which none of the wanted checks applies."""
    if not checks:
        return cases
    kept = [case for case in cases if any(may_apply(check, case, _contract(case)) is not False for check in checks)]
    if not kept:
        names = ", ".join(check.name for check in checks)
        raise UsageError(f"The check {names} applies to none of the {len(cases)} cases that were asked for.")
    return kept


def _contract(case: Case) -> Contract:
    return suites()[case.suite].contract(case.contract)


def _check_parameters(cases: Sequence[Case]) -> None:
    """Refuse a contract whose parameters are not numbers: NaN compares with nothing."""
    for contract, seed in dict.fromkeys((case.contract, case.seed) for case in cases):
        found = suites()[contract.partition("/")[0]].contract(contract).parameters(seed)
        for name, values in found.items():
            if not np.isfinite(values).all():
                raise UsageError(
                    f"The parameter '{name}' of {contract} with seed {seed} has values that are not finite."
                )


def _fresh_directory() -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    names = [stamp, *(f"{stamp}-{i}" for i in range(2, 100))]
    return next(RESULTS / name for name in names if not (RESULTS / name).exists())


def _run_record(wanted: Selection, checks: Sequence[str], cases: Sequence[Case]) -> RunRecord:
    return RunRecord(
        version=environment.packages()["shardproof"] or "unknown",
        hash=environment.content_hash(),
        command=["shardproof", *sys.argv[1:]],
        selection=asdict(wanted),
        checks=list(checks),
        profile=wanted.profile or (None if wanted.contract else DEFAULT_PROFILE),
        packages=environment.packages(),
        machine=environment.machine(),
        devices=wanted.devices,
        flags=environment.flags(),
        seeds=sorted({case.seed for case in cases}),
        started=_now(),
        planned=len(cases),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _execute(
    cases: list[Case], recorder: Recorder, judged_by: tuple[Check, ...], names: Sequence[str], as_json: bool
) -> None:
    """Run the cases that are left; whatever stops the run, what was recorded stays and the totals are written."""
    before = recorder.run.seconds
    final: dict[str, object] = {}
    try:
        if cases:
            with progress_for(len(cases), as_json=as_json) as progress:

                def record(result: CaseResult) -> None:
                    made = CaseRecord.of(result, reproduce(result.case, names))
                    recorder.append(made)
                    progress.show(made)

                totals = run_cases(cases, checks=judged_by, on_result=record, on_progress=progress.working)
            final = {"seconds": before + totals.seconds, "overhead": overhead(recorder.records)}
        final["finished"] = _now()
    except KeyboardInterrupt:
        here = f"{len(recorder.records)} cases are recorded"
        print(f"Interrupted: {here}; go on with shardproof run --resume {recorder.directory}.", file=sys.stderr)
    finally:
        recorder.close(**final)


def run_cases(*args: Any, **kwargs: Any) -> Totals:
    """Start the engine; imported late, so that a wrong option is answered at once."""
    from conformance.run import run as run_all

    return run_all(*args, **kwargs)


def _conclude(recorder: Recorder, as_json: bool) -> int:
    from conformance import summary
    from conformance.report import write_html

    report = write_html(recorder.directory)
    if as_json:
        print(recorder.run.model_dump_json())
    else:
        summary.show(recorder.records, recorder.run, str(report))
    good = recorder.records and recorder.run.finished and not recorder.run.unexpected
    return 0 if good else 1
