"""One plan compiled on one mesh: its figures and what is wrong with it."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Sequence
from typing import Any

from conformance.cases.plan import ScalePlan
from conformance.contract.budget import Allowance
from conformance.contract.mesh import Mesh
from conformance.records.formatting import binary_bytes
from conformance.scale.excess import excess
from conformance.scale.held import by_kind, idle_axes, tensors, whole_without_need
from conformance.scale.narrowed import declared_reduction, narrowed
from conformance.scale.program import ScaleProgram, StagedProgram
from conformance.scale.record import Finding, ScaleRecord, TensorBytes
from conformance.scale.roofline import roofline
from conformance.scale.sent import sent
from conformance.scale.staged import of_stages
from conformance.targets.chip import Chip
from conformance.targets.compiled import Compiled, compile_step
from conformance.targets.devices import host_mesh, target_mesh, why_no_target
from conformance.traffic.hlo_flops import product_flops
from conformance.traffic.hlo_module import read_module

MARGIN = 0.1  # of a chip's memory: its libraries, communication buffers and fragmentation take about so much
LARGEST = 12


def measured(plan: ScalePlan, implementation: type, mesh: Mesh, chip: Chip | None, budget: Any) -> ScaleRecord:
    """Compile a plan. Raises Unsupported where the program refuses the mesh, UnattributedError for unread HLO.

    Of a pipeline whose ranks have programs of their own, each that is distinct is compiled on its own devices.
    """
    program = implementation(plan.contract, mesh, plan.dtype)
    if isinstance(program, StagedProgram):
        every = [
            (stage, _compiled(plan, stage.program, stage.mesh, chip, stage.budget))
            for stage in program.stage_programs()
        ]
        return of_stages(every, mesh, chip)
    return _compiled(plan, program, mesh, chip, budget(plan.contract, mesh, plan.dtype))


def _compiled(
    plan: ScalePlan, program: ScaleProgram, mesh: Mesh, chip: Chip | None, allowed: Sequence[Allowance]
) -> ScaleRecord:
    not_compiled = why_no_target(chip, mesh.devices)
    devices = target_mesh(mesh, chip) if chip and not not_compiled else host_mesh(mesh)
    step, state, batch = program.abstract(devices)
    held = tensors(state, batch, mesh)
    lowered = step.lower(state, batch)
    compiled = compile_step(lowered, chip.platform if chip and not not_compiled else "")
    partitioned = read_module(compiled.partitioned)
    moved = sent(partitioned, mesh, "partitioned", _outputs(lowered), batch)
    optimized = sent(read_module(compiled.optimized), mesh, "target", ()) if compiled.optimized else ()
    flops = product_flops(partitioned)
    tokens = math.prod(plan.contract.batch_shapes["mask"])
    return ScaleRecord(
        plan=plan.name,
        summary=plan.summary,
        mesh=str(mesh),
        devices=mesh.devices,
        chip=chip.name if chip else None,
        parameters=sum(map(math.prod, plan.contract.shapes.values())),
        level=compiled.level,
        not_compiled=not_compiled,
        held_bytes=by_kind(held),
        argument_bytes=compiled.argument_bytes,
        output_bytes=compiled.output_bytes,
        alias_bytes=compiled.alias_bytes,
        temporary_bytes=_temporaries(compiled, held),
        needed_bytes=_needed(compiled),
        capacity_bytes=chip.memory_bytes if chip else None,
        margin=MARGIN,
        largest=tuple(sorted(held, key=lambda tensor: -tensor.bytes)[:LARGEST]),
        collectives=(*moved, *optimized),
        flops=flops,
        roofline=roofline(flops, optimized or moved, mesh, chip, tokens) if chip else None,
        findings=(
            *idle_axes(held, mesh),
            *whole_without_need(held, mesh),
            *excess(moved, allowed, mesh),
            *narrowed(moved, plan.reduction or plan.recipe_reduction),
            *_said(compiled),
        ),
        notes=(*declared_reduction(plan), *_refused(compiled)),
        proof=plan.proof,
        proof_verdict="",
        cpu_seconds=sum(os.times()[:2]),
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _needed(compiled: Compiled) -> int | None:
    if compiled.refused_bytes is not None:
        return compiled.refused_bytes
    if compiled.temporary_bytes is None:
        return None
    return compiled.argument_bytes + compiled.output_bytes - compiled.alias_bytes + compiled.temporary_bytes


def _temporaries(compiled: Compiled, held: Sequence[TensorBytes]) -> int | None:
    """Of a program that is refused, all that is needed besides the arguments."""
    if compiled.refused_bytes is None:
        return compiled.temporary_bytes
    return max(0, compiled.refused_bytes - sum(tensor.bytes for tensor in held))


def _refused(compiled: Compiled) -> tuple[str, ...]:
    if compiled.refused_bytes is None:
        return ()
    return (
        f"The chip's compiler refuses the program, which needs {binary_bytes(compiled.refused_bytes)}: collectives are "
        "known at the level partitioned alone, and temporaries are all that is needed besides the arguments.",
    )


def _outputs(lowered: Any) -> Sequence[str]:
    """The names of the results of the step, in the order of the program."""
    import jax

    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(lowered.out_info)[0]]


def _said(compiled: Compiled) -> tuple[Finding, ...]:
    """What the partitioner itself complains of."""
    sentences = (f"The partitioner says: {line}" for line in compiled.rematerialized)
    return tuple(Finding(check="communication", sentence=sentence) for sentence in sentences)
