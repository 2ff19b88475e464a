"""What one device sends in a step, read from a compiled program: by phase, kind, axes, dtype and tensor."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from conformance.contract.mesh import Mesh
from conformance.scale.record import Collective
from conformance.traffic.axes import shares
from conformance.traffic.collective_op import CollectiveOp, Level
from conformance.traffic.hlo_module import Module
from conformance.traffic.hlo_reader import collectives
from conformance.traffic.hlo_tensor import Tensors
from conformance.traffic.hlo_walk import Executed

_ARGUMENT = re.compile(r"\[\\?['\"]([^'\"\\]+)\\?['\"]\]")


@dataclass(frozen=True, kw_only=True)
class _Key:
    phase: str
    kind: str
    axes: tuple[str, ...]
    dtype: str
    tensor: str
    where: str
    whole: bool


def sent(
    module: Module, mesh: Mesh, level: Level, outputs: Sequence[str], batch: Collection[str] = ()
) -> tuple[Collective, ...]:
    """The collectives of a program, those that send most first. `outputs` are the names of its results, in order.

    What is a form of a key of the `batch` counts as an activation. At the level target several operands are combined
    into one launch, and no tensor is told apart.
    Raises UnattributedError where ranks, trips or element types cannot be read.
    """
    owners = Tensors(module, outputs) if level == "partitioned" else None
    located = collectives(module, mesh.devices, level)
    return merged(collective for each in located for collective in _of(each, mesh, owners, batch))


def merged(collectives: Iterable[Collective]) -> tuple[Collective, ...]:
    """Those of one phase, kind, dtype, place and set of axes added up; those that send most first."""
    total: dict[_Key, Collective] = {}
    for collective in collectives:
        key = _key(collective)
        before = total.get(key)
        total[key] = collective if before is None else _added(before, collective)
    return tuple(sorted(total.values(), key=lambda collective: -collective.wire_bytes))


def _of(
    located: Executed[CollectiveOp], mesh: Mesh, owners: Tensors | None, batch: Collection[str]
) -> list[Collective]:
    operation, owner = located.what, "" if owners is None else _owner(located, owners)
    return shared(operation, mesh, "" if owner in batch else owner, _place(operation.where))


def shared(operation: CollectiveOp, mesh: Mesh, tensor: str, where: str) -> list[Collective]:
    """One operation, by the sets of axes along which it sends."""
    return [
        Collective(
            level=operation.level,
            phase=operation.phase,
            kind=operation.kind,
            axes=share.axes,
            dtype=operation.dtype,
            tensor=tensor,
            where=where,
            launches=operation.trips,
            payload_bytes=share.payload_bytes,
            wire_bytes=share.wire_bytes,
            whole=share.whole,
        )
        for share in shares(operation, mesh)
    ]


def _owner(located: Executed[CollectiveOp], owners: Tensors) -> str:
    """The parameter of an argument `state['parameters']['embedding.weight']` or of a result likewise."""
    name = owners.of_operand(located.computation, located.instruction.operands[0])
    name = name or owners.of_result(located.computation, located.instruction.name)
    keys = _ARGUMENT.findall(name)
    return keys[-1] if keys else ""


def _place(op_name: str) -> str:
    """The operation itself with the scope before it: what of a long name tells two places apart."""
    parts = [part for part in op_name.split("/") if part and not part.startswith(("jit(", "jvp(", "transpose("))]
    return "/".join(part for part in parts[-3:] if part not in ("while", "body", "closed_call", "checkpoint"))


def _key(collective: Collective) -> _Key:
    return _Key(
        phase=collective.phase or "",
        kind=collective.kind,
        axes=collective.axes,
        dtype=collective.dtype,
        tensor=collective.tensor,
        where="" if collective.tensor else collective.where,
        whole=collective.whole,
    )


def _added(left: Collective, right: Collective) -> Collective:
    return left.model_copy(
        update={
            "launches": left.launches + right.launches,
            "payload_bytes": left.payload_bytes + right.payload_bytes,
            "wire_bytes": left.wire_bytes + right.wire_bytes,
        }
    )
