"""One plan in torch on one rank that is imagined: every operation of a step is dispatched, and none is computed."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from conformance.cases.plan import ScalePlan
from conformance.contract.mesh import Mesh
from conformance.scale.held import by_kind, whole_without_need
from conformance.scale.in_sum import differences
from conformance.scale.measured import LARGEST, MARGIN
from conformance.scale.record import Collective, ScaleRecord, TensorBytes
from conformance.scale.roofline import roofline
from conformance.scale.sent import merged, shared
from conformance.targets.chip import Chip
from conformance.targets.fake_ranks import fake_mesh
from conformance.trace.torch_private import fake_mode
from conformance.trace.torch_step import StepReader

NO_TARGET = "torch compiles for no chip that is not there"
NOTES = (
    "The budget holds in sum over all tensors, by phase, kind and axes: FSDP2 sends the parameters of a unit as one.",
    "Memory at its peak counts live storages in the order of the program on a CPU mesh: kernels are not fused, and no "
    "allocator rounds or keeps anything.",
)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What one rank held before the step, what gradients it had behind it, and what it did in between."""

    held: tuple[TensorBytes, ...]
    gradients: tuple[TensorBytes, ...]
    sent: tuple[Collective, ...]
    reader: StepReader


def imagined(
    plan: ScalePlan, implementation: type, mesh: Mesh, chip: Chip | None, budget: Any, rank: int
) -> ScaleRecord:
    """Take one step on one rank. Raises Unsupported where the program refuses the mesh."""
    seen = _taken(implementation(plan.contract, mesh, plan.dtype), mesh, fake_mesh(mesh, rank))
    allowed = budget(plan.contract, mesh, plan.dtype)
    tokens = math.prod(plan.contract.batch_shapes["mask"])
    held, reader = by_kind(seen.held), seen.reader
    arguments, flops = sum(held.values()), dict(reader.flops)
    whole = whole_without_need((*seen.held, *seen.gradients), mesh)
    return ScaleRecord(
        plan=plan.name,
        summary=plan.summary,
        framework="torch",
        rank=rank,
        mesh=str(mesh),
        devices=mesh.devices,
        chip=chip.name if chip else None,
        parameters=sum(map(math.prod, plan.contract.shapes.values())),
        level="program",
        not_compiled=NO_TARGET,
        held_bytes=held,
        gradient_bytes=sum(tensor.bytes for tensor in seen.gradients),
        kept_bytes=reader.kept_bytes - arguments,
        argument_bytes=arguments,
        output_bytes=arguments - held["batch"],
        alias_bytes=arguments - held["batch"],
        temporary_bytes=reader.memory.peak - arguments,
        needed_bytes=reader.memory.peak,
        capacity_bytes=chip.memory_bytes if chip else None,
        margin=MARGIN,
        largest=tuple(sorted(seen.held, key=lambda tensor: -tensor.bytes)[:LARGEST]),
        collectives=seen.sent,
        flops=flops,
        operations=reader.operations,
        roofline=roofline(flops, seen.sent, mesh, chip, tokens) if chip else None,
        findings=(*whole, *differences(seen.sent, allowed, mesh)),
        notes=(*NOTES, _substitution(reader.replaced)),
        proof=plan.proof,
        proof_verdict="",
        cpu_seconds=sum(os.times()[:2]),
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _taken(program: Any, mesh: Mesh, device_mesh: Any) -> _Step:
    fake = fake_mode()
    step, state, batch = program.imagined(device_mesh, fake)
    held, reader = tuple(_tensors(state, batch, mesh)), StepReader(mesh, device_mesh)
    with fake, reader:
        reader.memory.add(_locals(state, batch))
        state, _ = step(state, batch)
    gradients = [(name, p.grad) for name, p in state["parameters"].items() if p.grad is not None]
    return _Step(
        held=held,
        gradients=tuple(_tensor("gradients", name, g, mesh) for name, g in gradients),
        sent=merged(_sent(reader, mesh)),
        reader=reader,
    )


def _substitution(replaced: int) -> str:
    """What a CPU mesh puts in the place of an all-to-all."""
    if not replaced:
        return "DTensor replaces an all-to-all by an all-gather and a cut on a CPU mesh; this step has none."
    return f"{replaced} all-to-alls, which DTensor replaces by all-gathers on a CPU mesh, are counted as what they are."


def _sent(reader: StepReader, mesh: Mesh) -> Iterator[Collective]:
    for operation in reader.collectives():
        yield from shared(operation, mesh, operation.tensor, operation.where)


def _tensors(state: Mapping[str, Any], batch: Mapping[str, Any], mesh: Mesh) -> Iterator[TensorBytes]:
    yield from (_tensor("parameters", name, p, mesh) for name, p in state["parameters"].items())
    for slot, values in state["optimizer"].items():
        yield from (_tensor(f"optimizer/{slot}", name, value, mesh) for name, value in values.items())
    parts = (_tensor("batch", key, value, mesh) for key, value in batch.items())
    yield from (
        part.model_copy(update={"replicated_over": ()}) for part in parts
    )  # cut by hand; along which is not said


def _tensor(kind: str, name: str, value: Any, mesh: Mesh) -> TensorBytes:
    """Of this rank, from the local tensor; a tensor that is no DTensor lies whole along every axis."""
    local, divided = _local(value), set[str]()
    if isinstance(value, DTensor):
        names = value.device_mesh.mesh_dim_names or ()
        divided = {axis for axis, where in zip(names, value.placements, strict=True) if not where.is_replicate()}
    return TensorBytes(
        name=name,
        kind=kind,
        shape=tuple(value.shape),
        dtype=str(local.dtype).removeprefix("torch."),
        bytes=local.numel() * local.element_size(),
        replicated_over=tuple(axis for axis in mesh.axes if mesh.size(axis) > 1 and axis not in divided),
    )


def _local(value: Any) -> torch.Tensor:
    return value.to_local() if isinstance(value, DTensor) else value


def _locals(state: Mapping[str, Any], batch: Mapping[str, Any]) -> Iterable[torch.Tensor]:
    slots = (value for values in state["optimizer"].values() for value in values.values())
    return [_local(value) for value in (*state["parameters"].values(), *slots, *batch.values())]
