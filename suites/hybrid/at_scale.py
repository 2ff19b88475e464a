"""`python -m suites.hybrid.at_scale FOLDER`: every mistake of `faults.at_scale` planted in a plan, and what is said.

One process compiles them all for the chip of the plan, or for emulated devices where the chip cannot be compiled for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance.scale.record import ScaleRecord
    from suites.hybrid.faults.at_scale import PlantedPlan

PLAN, CHIP = "405b", "h100"


def main(folder: Path) -> int:
    """Write planted.md; the exit status is 1 where a mistake is not named, or a control is found guilty."""
    from conformance.contract.mesh import Mesh
    from conformance.scale.measured import measured
    from conformance.targets.chip import CHIPS
    from suites.hybrid.budget import scanned
    from suites.hybrid.faults.at_scale import CONTROLS, PLANTED
    from suites.hybrid.plans import PLANS

    [plan] = [plan for plan in PLANS if plan.name == PLAN]
    mesh, rows, right = Mesh.parse(plan.mesh), [], True
    for planted in PLANTED:
        record = measured(plan, planted.program, mesh, CHIPS[CHIP], scanned)
        rows.append(_row(planted, record))
        right = right and named(planted, record)
        print(f"{planted.name}: {'named' if named(planted, record) else 'NOT NAMED'}", file=sys.stderr, flush=True)
    for name, program in CONTROLS.items():
        record = measured(plan, program, mesh, CHIPS[CHIP], scanned)
        rows.append(f"| {name} | a control | {len(record.findings)} findings | |")
        right = right and not record.findings
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "planted.md").write_text("\n".join([*_head(plan.name, str(mesh)), *rows]) + "\n", encoding="utf-8")
    return 0 if right else 1


def named(planted: PlantedPlan, record: ScaleRecord) -> bool:
    """Whether a finding of the right check names the tensor and the axis."""
    return any(
        finding.check == planted.check and finding.tensor == planted.tensor and planted.axis in finding.axes
        for finding in record.findings
    )


def _head(plan: str, mesh: str) -> Iterator[str]:
    yield "# Mistakes planted at production size"
    yield f"\nIn {plan} on {mesh}, compiled and never run. None of them changes a value.\n"
    yield "| mistake | what it is | named | what is said of it first |"
    yield "| --- | --- | --- | --- |"


def _row(planted: PlantedPlan, record: ScaleRecord) -> str:
    own = [f for f in record.findings if f.tensor == planted.tensor and f.check == planted.check] or record.findings
    said = own[0].sentence if own else ""
    what = (planted.program.__doc__ or "").splitlines()[0]
    return f"| {planted.name} | {what} | {'yes' if named(planted, record) else 'no'} | {said} |"


if __name__ == "__main__":
    from conformance.targets.chip import CHIPS
    from conformance.targets.devices import why_no_target

    os.environ["JAX_PLATFORMS"] = "cpu"
    if why_no_target(CHIPS[CHIP]):
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=512"
    sys.exit(main(Path(sys.argv[1])))
