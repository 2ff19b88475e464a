"""`shardproof plan --planner` and `--apply`: a planner held to the laws of plans; a plan checked small and compiled."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from conformance.cases.importing import module_at
from conformance.cases.plan_file import PlanFile, read_plan
from conformance.cases.plans import plan_named
from conformance.cases.raised import said
from conformance.cases.usage import UsageError
from conformance.planner.laws import Judged, Planner, judge
from conformance.planner.ours import plan as ours
from conformance.records.formatting import binary_bytes, count
from conformance.records.recorder import RESULTS
from conformance.report.terminal import show_table
from conformance.runner.scale import scaled
from conformance.scale.record import ScaleRecord
from conformance.targets.chip import Chip, chip_of

MOST_SAID = 3
DIRECTORY = RESULTS / "plan"


def judge_planner(name: str | None, *, as_json: bool) -> int:
    """`name` is file.py:function, or `ours`. The exit status is 1 where a law is broken."""
    judged = judge(_planner(name or "ours"))
    if as_json:
        print(json.dumps([{**vars(each), "verdict": each.verdict} for each in judged], indent=1))
    else:
        rows = [[each.law, each.verdict, f"{each.compared}", each.statement] for each in judged]
        show_table(("law", "verdict", "questions", "says"), rows)
        print()
        for line in _breaches(judged):
            print(line)
    return 1 if any(each.verdict != "pass" for each in judged) else 0


def _breaches(judged: tuple[Judged, ...]) -> list[str]:
    lines = []
    for each in judged:
        if not each.compared:
            lines.append(f"{each.law}: nothing to compare, since no question was answered.")
        more = len(each.breaches) - MOST_SAID
        lines += [f"{each.law}: {sentence}" for sentence in each.breaches[:MOST_SAID]]
        lines += [f"{each.law}: {more:,} more like these." for _ in range(more > 0)]
    return lines or ["Every law is kept."]


def _planner(name: str) -> Planner:
    if name == "ours":
        return ours
    file, _, function = name.rpartition(":")
    if not Path(file).is_file():
        raise UsageError(f"There is no file '{file}' with a planner: write --planner file.py:function.")
    try:
        named = getattr(module_at(Path(file)), function, None)
    except Exception as failure:
        raise UsageError(f"The file '{file}' does not import: {said(failure)}.") from failure
    if not callable(named):
        raise UsageError(f"'{file}' has no function '{function}'.")
    planner: Planner = named
    return planner


def apply_plan(path: Path, *, as_json: bool) -> int:
    """Check a plan small, compile it large, and compare; the exit status is 1 where anything does not hold."""
    kept = read_plan(path)
    chip = chip_of(kept.chip, str(path))
    plan = plan_named(str(path))
    record = scaled(str(path), plan, kept.layout.mesh, chip, "jax", DIRECTORY, _progress)
    lines = list(_applied(kept, chip, record))
    holds = record.fits is not False and record.proof_verdict == "pass" and _same_state(kept, record)
    if as_json:
        print(json.dumps({"holds": holds, "words": lines, "record": record.model_dump(mode="json")}, indent=1))
    else:
        print("\n".join(lines))
    return 0 if holds else 1


def _applied(kept: PlanFile, chip: Chip, record: ScaleRecord) -> list[str]:
    lines = [f"{kept.asked} on {kept.layout}, {count(kept.devices, 'device')} of {binary_bytes(chip.memory_bytes)}."]
    lines.append(f"Small, against the reference: {record.proof}: {record.proof_verdict}.")
    same = "as the plan says" if _same_state(kept, record) else "not as the plan says"
    lines.append(f"Large, compiled at the level {record.level}: bytes of parameters and slots are {same}.")
    if record.needed_bytes is None:
        lines.append(f"Whether it fits is not known: {record.not_compiled}.")
    else:
        fits = "fits" if record.fits else "does not fit"
        off = kept.predicted.needed_bytes / record.needed_bytes - 1
        lines.append(f"It {fits}: it needs {binary_bytes(record.needed_bytes)}; {off:+.0%} was predicted.")
    return [*lines, *(f"{finding.check}: {finding.sentence}" for finding in record.findings[:MOST_SAID])]


def _same_state(kept: PlanFile, record: ScaleRecord) -> bool:
    """Of a pipeline the plan says what one of its ranks holds."""
    said = kept.predicted.parameter_bytes, kept.predicted.optimizer_bytes
    return said in {(each.parameter_bytes, each.optimizer_bytes) for each in record.stages or (record,)}


def _progress(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
