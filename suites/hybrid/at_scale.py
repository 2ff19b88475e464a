"""`python -m suites.hybrid.at_scale FOLDER`: every mistake of `faults.at_scale*` planted in a plan, and what is said.

One process compiles them all for the chip of the plan, or for emulated devices where the chip cannot be compiled for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.scale.record import ScaleRecord
    from suites.hybrid.faults.at_scale import PlantedPlan

CHIP, DEVICES = "h100", 2048


def main(folder: Path) -> int:
    """Write planted.md; the exit status is 1 where a mistake is not named, or a control is found guilty."""
    from suites.hybrid.faults import at_scale, at_scale_mixture

    rows, right = [], True
    for plan, faults in (("405b", at_scale), ("671b-mixture", at_scale_mixture)):
        lines, all_right = _judged(plan, faults.PLANTED, faults.CONTROLS)
        rows += lines
        right = right and all_right
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "planted.md").write_text("\n".join([*_head(), *rows]) + "\n", encoding="utf-8")
    return 0 if right else 1


def _judged(name: str, planted: Sequence[PlantedPlan], controls: Mapping[str, Any]) -> tuple[list[str], bool]:
    """(lines of the table, whether every mistake is named and no control is found guilty) of one plan."""
    from conformance.contract.mesh import Mesh
    from conformance.scale.measured import measured
    from conformance.targets.chip import CHIPS
    from conformance.workers.lookup import load
    from suites.hybrid.plans import PLANS

    [plan] = [plan for plan in PLANS if plan.name == name]
    mesh, budget, rows, right = Mesh.parse(plan.mesh), load(plan.budget), [], True
    for mistake in planted:
        record = measured(plan, mistake.program, mesh, CHIPS[CHIP], budget)
        rows.append(_row(plan.name, mistake, record))
        right = right and named(mistake, record)
        print(f"{mistake.name}: {'named' if named(mistake, record) else 'NOT NAMED'}", file=sys.stderr, flush=True)
    for control, program in controls.items():
        record = measured(plan, program, mesh, CHIPS[CHIP], budget)
        rows.append(f"| {plan.name} | {control} | a control | {len(record.findings)} findings | |")
        right = right and not record.findings
    return rows, right


def named(planted: PlantedPlan, record: ScaleRecord) -> bool:
    """Whether a finding of the right check names the tensor and the axis."""
    return any(
        finding.check == planted.check and finding.tensor == planted.tensor and planted.axis in finding.axes
        for finding in record.findings
    )


def _head() -> Iterator[str]:
    yield "# Mistakes planted at production size"
    yield "\nIn plans on their meshes, compiled and never run. None of the mistakes changes a value.\n"
    yield "| plan | mistake | what it is | named | what is said of it first |"
    yield "| --- | --- | --- | --- | --- |"


def _row(plan: str, planted: PlantedPlan, record: ScaleRecord) -> str:
    own = [f for f in record.findings if f.tensor == planted.tensor and f.check == planted.check] or record.findings
    said = own[0].sentence if own else ""
    what = (planted.program.__doc__ or "").splitlines()[0]
    return f"| {plan} | {planted.name} | {what} | {'yes' if named(planted, record) else 'no'} | {said} |"


if __name__ == "__main__":
    from conformance.targets.chip import CHIPS
    from conformance.targets.devices import why_no_target

    os.environ["JAX_PLATFORMS"] = "cpu"
    if why_no_target(CHIPS[CHIP]):
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"
    sys.exit(main(Path(sys.argv[1])))
