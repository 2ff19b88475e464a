"""The process that compiles one plan: it reads a request from its arguments and prints the record as JSON.

`python -m conformance.workers.scale_process PLAN MESH CHIP FRAMEWORK`, where CHIP is a JSON text or `-` for none. In
JAX the program of all devices is compiled, in torch rank 0 takes a step in which nothing is computed.
"""

from __future__ import annotations

import os
import sys

from conformance.cases.importing import take_folders
from conformance.cases.plan import ScalePlan
from conformance.cases.plans import plan_named
from conformance.contract.mesh import Mesh
from conformance.scale.record import ScaleRecord
from conformance.targets.chip import Chip
from conformance.targets.devices import MOST_HOST_DEVICES, why_no_target
from conformance.workers.lookup import load

SEPARATOR = "\x1e"  # whatever a program prints itself stands before it


def main(name: str, mesh_text: str, chip_text: str, framework: str) -> None:
    chip = None if chip_text == "-" else Chip.model_validate_json(chip_text)
    record = _PROCEDURES[framework](plan_named(name).of(framework), Mesh.parse(mesh_text), chip)
    print(f"{SEPARATOR}{record.model_dump_json()}")


def _compiled(plan: ScalePlan, mesh: Mesh, chip: Chip | None) -> ScaleRecord:
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    if chip is None or chip.topology or why_no_target(chip):  # parts of a pipeline may be no slice of a TPU
        devices = min(mesh.devices, MOST_HOST_DEVICES)
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    from conformance.scale.measured import measured

    return measured(plan, load(plan.program), mesh, chip, load(plan.budget))


def _imagined(plan: ScalePlan, mesh: Mesh, chip: Chip | None) -> ScaleRecord:
    from conformance.scale.imagined import imagined

    return imagined(plan, load(plan.program), mesh, chip, load(plan.budget), rank=0)


_PROCEDURES = {"jax": _compiled, "torch": _imagined}


if __name__ == "__main__":
    take_folders()
    main(*sys.argv[1:5])
