"""The process that measures one plan on devices of this machine.

`python -m conformance.workers.tune_process PLAN STEPS` emulates as many host devices as the plan has, takes one step
that compiles and then STEPS more, each from the state of the one before, and prints their seconds as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time

from conformance.cases.importing import take_folders
from conformance.cases.plans import plan_named
from conformance.contract.mesh import Mesh
from conformance.workers.lookup import load

SEPARATOR = "\x1e"  # whatever a program prints itself stands before it


def main(name: str, steps: int) -> None:
    plan = plan_named(name)
    mesh = Mesh.parse(plan.mesh)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={mesh.devices}"
    import jax

    from conformance.targets.devices import host_mesh

    program = load(plan.program)(plan.contract, mesh, plan.dtype)
    [batch] = plan.contract.batches(0, 1)
    state = program.place(plan.contract.parameters(0), host_mesh(mesh))
    state, _ = jax.block_until_ready(program.step(state, batch))
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        state, _ = jax.block_until_ready(program.step(state, batch))
        seconds.append(time.perf_counter() - started)
    print(f"{SEPARATOR}{json.dumps(seconds)}")


if __name__ == "__main__":
    take_folders()
    main(sys.argv[1], int(sys.argv[2]))
