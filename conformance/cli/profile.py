"""`shardproof profile`: a case, or what proves a plan, run and watched; tables, a page, a picture and a trace."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

from conformance.cases.case import Case
from conformance.cases.plan_file import PlanFile, read_plan
from conformance.cases.resolve import resolve
from conformance.cases.selection import parse_case
from conformance.cli.asked_chip import asked_chip
from conformance.contract.errors import ShardproofError
from conformance.profile import tables, trace
from conformance.profile.picture import draw
from conformance.profile.record import LARGE, ProfileRecord, recorded
from conformance.records.formatting import seconds
from conformance.records.recorder import RESULTS
from conformance.report.terminal import show_table
from conformance.runner.steps import steps_here, too_large_here
from conformance.workers.jobs import Profiled, ProfileJob
from conformance.workers.pool import Workers

DIRECTORY = RESULTS / "profile"
TIMEOUT_SECONDS = 600.0
STEPS = 5


class ProfileError(ShardproofError, RuntimeError):
    """A case that did not run; the message is one sentence."""

    status = 1


def profile(name: str, *, chip: str | None, output: Path | None, as_json: bool) -> int:
    """The exit status is 0 whatever the figures are: they are no verdict."""
    plan = read_plan(Path(name)) if name.endswith(".json") else None
    case, on_chip = parse_case(plan.proof if plan else name), asked_chip(name, chip)
    seen = _seen(case)
    record = recorded(case.id, case.mesh, case.dtype, case.devices, on_chip, seen)
    of_plan = () if plan is None else (*_of_plan(plan, on_chip.name), *_at_its_size(Path(name), plan))
    record = record.model_copy(update={"of_plan": of_plan})
    folder = output or DIRECTORY
    _write(record, seen, folder)
    if as_json:
        print(record.model_dump_json(indent=1))
    else:
        _show(record)
    print(f"Page: {folder / 'README.md'}; trace: {folder / 'trace.json'}", file=sys.stderr if as_json else sys.stdout)
    return 0


def _seen(case: Case) -> Profiled:
    target = resolve(case)
    print(f"running {case.id}", file=sys.stderr, flush=True)
    with Workers(jax_devices=case.mesh.devices) as workers:
        job = ProfileJob(case=case, framework=target.framework, target=target.path)
        outcome = workers.run(job, TIMEOUT_SECONDS)
    if outcome.profiled is None:
        missing = f"{outcome.missing} is not installed" if outcome.missing else outcome.reason
        raise ProfileError(f"{case.id} does not run: {missing}")
    return outcome.profiled


def _write(record: ProfileRecord, seen: Profiled, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.json").write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    trace.write(seen.operations, folder / "trace.json")
    draw(record, seen.operations, folder / "profile.svg", seen.planned)
    lines = [f"# {record.case}\n", *(f"* {line}" for line in tables.words(record)), "\n![the step](profile.svg)"]
    for head, rows in (tables.phases(record), tables.axes(record), tables.devices(record)):
        lines += ["", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _show(record: ProfileRecord) -> None:
    print(f"{record.case}, on {record.devices} devices")
    for table in (tables.phases(record), tables.axes(record), tables.devices(record)):
        print()
        show_table(*table)
    print()
    for line in tables.words(record):
        print(line)


def _of_plan(plan: PlanFile, chip: str) -> list[str]:
    """What the plan says of itself at its size."""
    predicted = plan.predicted
    lines = [f"At its size, {plan.mesh}: a step takes {seconds(predicted.step_seconds)} on {chip} by the cost model."]
    for axes, took in sorted(predicted.communication_seconds.items(), key=lambda link: -link[1]):
        share = took / predicted.step_seconds
        warning = f", more than {LARGE:.0%}" if share > LARGE else ""
        lines.append(f"Modelled, communication over {axes} is {share:.0%} of it{warning}.")
    return lines


def _at_its_size(path: Path, plan: PlanFile) -> list[str]:
    """The plan itself, measured where this machine can emulate it."""
    if why := too_large_here(plan):
        return [f"The plan itself was not run here: {why}."]
    print(f"running {STEPS} steps of {plan.mesh}, the plan itself", file=sys.stderr, flush=True)
    took = steps_here(path, STEPS, TIMEOUT_SECONDS)
    if took is None:
        return [f"The plan itself took more than {seconds(TIMEOUT_SECONDS)} here."]
    return [
        f"Measured at its size, on {plan.devices:,} emulated devices of this machine: {seconds(median(took))} a step, "
        f"the median of {STEPS}."
    ]
