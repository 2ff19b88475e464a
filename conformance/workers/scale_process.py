"""The process that compiles one plan: it reads a request from its arguments and prints the record as JSON.

`python -m conformance.workers.scale_process PLAN MESH CHIP`, where CHIP is a JSON text or `-` for none.
"""

from __future__ import annotations

import os
import sys

from conformance.cases.importing import take_folders
from conformance.targets.chip import Chip
from conformance.targets.devices import MOST_HOST_DEVICES, why_no_target

SEPARATOR = "\x1e"  # whatever a program prints itself stands before it


def main(name: str, mesh_text: str, chip_text: str) -> None:
    from conformance.contract.mesh import Mesh

    mesh = Mesh.parse(mesh_text)
    chip = None if chip_text == "-" else Chip.model_validate_json(chip_text)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    if why_no_target(chip):
        devices = min(mesh.devices, MOST_HOST_DEVICES)
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    from conformance.cases.plans import plan_named
    from conformance.scale.measured import measured
    from conformance.workers.lookup import load

    plan = plan_named(name)
    record = measured(plan, load(plan.program), mesh, chip, load(plan.budget))
    print(f"{SEPARATOR}{record.model_dump_json()}")


if __name__ == "__main__":
    take_folders()
    main(*sys.argv[1:4])
