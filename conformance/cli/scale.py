"""`shardproof scale`: plans compiled at their size; tables on the terminal, a page and a picture in a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from conformance.cases.plan import ScalePlan
from conformance.cases.plan_file import families
from conformance.cases.plans import plan_named, plans
from conformance.cases.usage import choose
from conformance.cli.asked_chip import asked_chip
from conformance.contract.mesh import Mesh
from conformance.records.recorder import RESULTS
from conformance.report.scale import write
from conformance.report.scale_tables import axes_table, memory_table, stages_table, verdict, verdict_lines
from conformance.report.terminal import show_table
from conformance.runner.scale import scaled
from conformance.scale.record import ScaleRecord

FRAMEWORKS = ("jax", "torch")
DIRECTORY = RESULTS / "scale"


def scale(
    names: Sequence[str], *, mesh: str | None, chip: str | None, framework: str, output: Path | None, as_json: bool
) -> int:
    """The exit status is 1 where a plan has a finding, does not fit, or its program fails when it is small."""
    folder, records = output or DIRECTORY, []
    for name, plan, where in _asked(names, mesh, choose("framework", framework, FRAMEWORKS)):
        record = scaled(name, plan, where, asked_chip(name, chip), framework, folder, _progress)
        records.append(record)
        if as_json:
            print(record.model_dump_json(), flush=True)
        else:
            _show(record)
    page = write(records, folder)
    print(f"Report: {page}", file=sys.stderr if as_json else sys.stdout)
    return 0 if all(verdict(record) == "pass" for record in records) else 1


def _asked(names: Sequence[str], mesh: str | None, framework: str) -> Iterator[tuple[str, ScalePlan, Mesh]]:
    """Every plan that is asked for, and its mesh; all are read before anything is compiled."""
    chosen = [(name, plan_named(name).of(framework)) for name in names or plans()]
    yield from [(name, plan, _mesh(mesh, plan)) for name, plan in chosen]


def _mesh(asked: str | None, plan: ScalePlan) -> Mesh:
    """Of axes that the plan itself has, or that programs of plans know."""
    own = Mesh.parse(plan.mesh)
    if asked is None:
        return own
    known = dict.fromkeys((*own.axes, *(axis for family in families().values() for axis in family.axes)))
    mesh = Mesh.parse(asked)
    for axis in mesh.axes:
        choose("mesh axis", axis, list(known))
    return mesh


def _show(record: ScaleRecord) -> None:
    where = f"on {record.mesh}, in {record.framework}"
    print(f"\n{record.plan}: {record.summary}; {record.parameters:,} parameters {where}")
    show_table(*memory_table(record))
    print()
    if record.stages:
        show_table(*stages_table(record))
        print()
    show_table(*axes_table(record))
    print()
    for line in verdict_lines(record):
        print(line)


def _progress(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
