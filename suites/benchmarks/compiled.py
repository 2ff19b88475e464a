"""Compiles the step of a JAX case: behind the partitioner, and for the eight chips of a node of which none is here."""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from conformance.cases.case import DTYPES, Case
from conformance.cases.resolve import resolve
from conformance.cases.usage import choose
from conformance.contract.mesh import Mesh
from conformance.scale.sent import sent
from conformance.targets.chip import CHIPS
from conformance.targets.compiled import Compiled, compile_step
from conformance.targets.devices import target_mesh, why_no_target
from conformance.trace import jax_reordered
from conformance.traffic.collective_op import Level
from conformance.traffic.hlo_module import read_module
from conformance.workers.lookup import load

from .kept import Figures
from .measured import named
from .series import MEMORY, SEVERAL

CHIP = "h100"
# Small products have no tiles that the Triton generator of the chip accepts: what is sent is the same without it.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_gpu_enable_triton_gemm=false"


def figures(contract: str, implementation: str, mesh: str, dtype: str, devices: str) -> Figures:
    """`partitioned/...` and, where the chip can be compiled for, `target/...`: bytes of a device in one step."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"  # read when the first device is asked for
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    jax_reordered.register()
    case = Case(
        contract=contract, implementation=implementation, mesh=Mesh.parse(mesh), dtype=choose("dtype", dtype, DTYPES)
    )
    here = jax.sharding.Mesh(np.array(jax.devices()[: case.mesh.devices]).reshape(case.mesh.shape), case.mesh.axes)
    made, state, batch = _placed(case, here)
    compiled = compile_step(jax.jit(made.step).lower(state, batch))
    sizes = _bytes("partitioned", compiled, compiled.partitioned, case.mesh)
    if not why_no_target(CHIPS[CHIP]):
        there = target_mesh(case.mesh, CHIPS[CHIP])
        made = _made(case)
        made.settle(there)
        compiled = compile_step(jax.jit(made.step).lower(_shapes(state, there), batch), CHIPS[CHIP].platform)
        sizes |= _bytes("target", compiled, compiled.optimized, case.mesh)
    return sizes


def _made(case: Case) -> Any:
    target = resolve(case)
    return load(target.path)(target.contract, case.mesh, case.dtype)


def _placed(case: Case, mesh: jax.sharding.Mesh) -> tuple[Any, Any, Any]:
    made, contract = _made(case), resolve(case).contract
    [batch] = contract.batches(0, 1)
    return made, made.place(contract.parameters(0), mesh), batch


def _shapes(state: Any, mesh: jax.sharding.Mesh) -> Any:
    """A state as shapes on other devices."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, x.sharding.spec)), state
    )


def _bytes(level: Level, compiled: Compiled, text: str, mesh: Mesh) -> Figures:
    sizes = {f"{level}/{axis}": 0.0 for axis in (*mesh.axes, SEVERAL)}
    held = compiled.argument_bytes + compiled.output_bytes - compiled.alias_bytes + (compiled.temporary_bytes or 0)
    sizes[f"{level}/{MEMORY}"] = float(held)
    for collective in sent(read_module(text), mesh, level, ()):
        sizes[f"{level}/{named(collective.axes)}"] += collective.wire_bytes
    return sizes
