"""`shardproof run`: judge cases, record each one, write the report, say what came out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.cases.case import Case
from conformance.cases.external import is_external
from conformance.cases.selection import DEFAULT_PROFILE, Selection, parse_case, select
from conformance.cases.suite import suites
from conformance.cases.usage import UsageError
from conformance.checks import Check
from conformance.checks.applicability import chosen, may_apply
from conformance.cli.interruption import STATUS
from conformance.cli.results_folder import fresh
from conformance.contract.contract import Contract
from conformance.contract.errors import ShardproofError
from conformance.contract.implementation import FRAMEWORKS
from conformance.qualify.system import devices as seen_devices
from conformance.records import environment
from conformance.records.base import writable
from conformance.records.files import WriteFailed
from conformance.records.recorder import Recorder, read
from conformance.records.records import CaseRecord
from conformance.records.reproduce import reproduction
from conformance.records.results import CaseResult, overhead
from conformance.records.run_record import RunRecord
from conformance.report.progress import progress_for

if TYPE_CHECKING:
    from conformance.runner.run import Totals
    from conformance.workers.pool import Workers


@dataclass(frozen=True, kw_only=True)
class How:
    """How cases are judged and what is printed. `timeout_seconds` and `workers` None are the engine's own.

    figures  every tensor that was compared is recorded
    facts    what else the record of the run says of the machine
    """

    checks: tuple[str, ...] = ()
    timeout_seconds: float | None = None
    trials: bool = True
    workers: int | None = None
    as_json: bool = False
    figures: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


class WorldLostError(ShardproofError, RuntimeError):
    """A process of the world has gone; nothing more can be run. The message is one sentence."""


Choose = Callable[[Selection], list[Case]]


def run(wanted: Selection, how: How, *, output: Path | None, resume: Path | None, choose: Choose = select) -> int:
    """Run what was asked for, which are the cases that `choose` takes from it; the exit status."""
    _check_numbers(how)
    if "real" in (wanted.devices, *(parse_case(case).devices for case in wanted.cases)):
        from conformance.runner.real import follow, follows

        if (launch := follows()) is not None:
            return follow(launch, resume or output)
    if resume is not None:
        wanted, how = _resumed(wanted, how, resume, output)
    judged_by = chosen(how.checks)
    cases = _judgeable(choose(wanted), judged_by if how.checks else ())
    _check_parameters(cases)
    if all(case.devices != "real" for case in cases):
        return _recorded(cases, wanted, how, judged_by, None, output, resume)
    from conformance.runner.real import fitting, real_workers

    with real_workers() as workers:
        cases = fitting(cases, workers, every=bool(wanted.mesh or wanted.cases))
        return _recorded(cases, wanted, how, judged_by, workers, output, resume)


def _recorded(
    cases: list[Case],
    wanted: Selection,
    how: How,
    judged_by: tuple[Check, ...],
    workers: Workers | None,
    output: Path | None,
    resume: Path | None,
) -> int:
    recorder = Recorder(resume or output or fresh(), _run_record(wanted, how, cases), resume=resume is not None)
    for complaint in recorder.complaints:
        print(complaint, file=sys.stderr)
    left = [case for case in cases if writable(case.id) not in recorder.done]
    recorder.plan(len(left))
    _execute(left, wanted, recorder, judged_by, how, workers)
    return _conclude(recorder, how)


def _check_numbers(how: How) -> None:
    if how.timeout_seconds is not None and not how.timeout_seconds > 0:
        raise UsageError(f"A timeout of {how.timeout_seconds:g} seconds leaves no time: give more than 0.")
    if how.workers is not None and how.workers < 1:
        raise UsageError(f"{how.workers} workers run nothing: give 1 or more.")


def _resumed(wanted: Selection, how: How, resume: Path, output: Path | None) -> tuple[Selection, How]:
    """The selection to go on with: that of the earlier run, unless another one is given."""
    if output is not None and output != resume:
        raise UsageError(f"--resume {resume} writes to that same directory: leave out --output {output}.")
    earlier = read(resume).run
    if replace(wanted, devices=Selection().devices) != Selection():
        return wanted, how
    stored = {key: value for key, value in earlier.selection.items() if key in asdict(wanted)}
    named = earlier.selection.get("contract")  # as earlier versions wrote the only one there could be
    contracts = stored.get("contracts", (named,) if named else ())
    lists = {"suites": stored.get("suites", ()), "contracts": contracts, "cases": stored.get("cases", ())}
    stored |= {key: tuple(value) for key, value in lists.items()}
    return replace(wanted, **stored), replace(how, checks=how.checks or tuple(earlier.checks))


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
        parameters = suites()[contract.partition("/")[0]].contract(contract).parameters(seed)
        for name, values in parameters.items():
            if not np.isfinite(values).all():
                raise UsageError(
                    f"The parameter '{name}' of {contract} with seed {seed} has values that are not finite."
                )


def _run_record(wanted: Selection, how: How, cases: Sequence[Case]) -> RunRecord:
    made = RunRecord(
        version=environment.packages()["shardproof"] or "unknown",
        hash=environment.content_hash(),
        command=["shardproof", *sys.argv[1:]],
        selection=asdict(wanted),
        checks=list(how.checks),
        profile=wanted.profile or (None if wanted.contracts or wanted.cases else DEFAULT_PROFILE),
        packages=environment.packages(),
        machine=environment.machine() | _accelerators(wanted, how, cases) | dict(how.facts),
        devices=cases[0].devices,
        flags=environment.flags(),
        seeds=sorted({case.seed for case in cases}),
        started=_now(),
        planned=len(cases),
    )
    files = {case.implementation for case in cases if is_external(case.implementation)}
    part = made.part().model_copy(update={"files": environment.file_hashes(files)})
    return made.model_copy(update={"parts": (part,)})


def _accelerators(wanted: Selection, how: How, cases: Sequence[Case]) -> dict[str, object]:
    """The devices that the frameworks show, where some of them are under test."""
    if cases[0].devices == "emulated" or "accelerators" in how.facts:
        return {}
    return {"accelerators": seen_devices([wanted.framework] if wanted.framework else FRAMEWORKS)}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _execute(
    cases: list[Case],
    wanted: Selection,
    recorder: Recorder,
    judged_by: tuple[Check, ...],
    how: How,
    workers: Workers | None,
) -> None:
    """Run the cases that are left; whatever stops the run, what was recorded stays and the totals are written."""
    final: dict[str, object] = {}
    before, started = recorder.run.seconds, time.perf_counter()
    try:
        if cases:
            _run(cases, wanted, recorder, judged_by, how, workers)
        final["finished"] = _now()
    except KeyboardInterrupt:
        print(f"Interrupted: {_so_far(recorder)}", file=sys.stderr)
        final["interrupted"] = True
    except WorldLostError as lost:
        print(f"{lost} {_so_far(recorder)}", file=sys.stderr)
    except WriteFailed as failed:
        with suppress(WriteFailed):  # where a record has no room, the totals may have none
            recorder.close()
        raise WriteFailed(f"{failed} {_so_far(recorder)}") from failed
    except BaseException:
        recorder.close()
        raise
    spent = before + time.perf_counter() - started
    recorder.close(**final, seconds=spent, overhead=overhead(recorder.records))


def _run(
    cases: list[Case],
    wanted: Selection,
    recorder: Recorder,
    judged_by: tuple[Check, ...],
    how: How,
    workers: Workers | None,
) -> None:
    """Judge cases and record each when it has ended. In a world nothing that fails is run again."""
    world = workers.world if workers is not None else None
    with progress_for(len(cases), as_json=how.as_json) as progress:

        def record(result: CaseResult) -> None:
            progress.show(recorder.append(_record_of(result, how)))
            if world is not None and world.lost:
                raise WorldLostError(world.lost)

        run_cases(
            cases,
            checks=judged_by,
            on_result=record,
            on_progress=progress.working,
            timeout_seconds=how.timeout_seconds,
            bisect=how.trials and world is None,
            alone=world is None,
            as_given=bool(wanted.cases) or len(wanted.contracts) > 1,
            at_once=how.workers if workers is None else 1,  # one case at a time has the real devices
            workers=workers,
        )


def _record_of(result: CaseResult, how: How) -> CaseRecord:
    return CaseRecord.of(result, reproduction(result, how.checks), figures=how.figures)


def _so_far(recorder: Recorder) -> str:
    done, planned = len(recorder.records), recorder.run.planned
    return f"{done} of {planned} cases are recorded; go on with shardproof run --resume {recorder.directory}."


def run_cases(*args: Any, **kwargs: Any) -> Totals:
    """Start the engine; imported late, so that a wrong option is answered at once."""
    from conformance.runner.run import run as run_all

    return run_all(*args, **kwargs)


def _conclude(recorder: Recorder, how: How) -> int:
    from conformance.report import terminal, write_html

    try:
        report = str(write_html(recorder.directory))
    except WriteFailed as failed:
        report = ""
        again = f"`shardproof report {recorder.directory}` writes it again"
        print(f"There is no report. {failed} The records are kept, {again}.", file=sys.stderr)
    if how.as_json:
        print(recorder.run.model_dump_json())
    else:
        terminal.show(recorder.records, recorder.run, report)
    if recorder.run.interrupted:
        return STATUS
    shown = any(record.shows_something for record in recorder.records)
    good = shown and recorder.run.finished and not recorder.run.unexpected and report
    return 0 if good else 1
