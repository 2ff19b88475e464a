"""What one device holds of the state and the batch, tensor by tensor, and which of it lies whole where it need not.

Bytes follow from shapes and shardings alone, and are exact.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from conformance.contract.mesh import Mesh
from conformance.records.formatting import binary_bytes
from conformance.scale.record import Finding, TensorBytes

LEAST_BYTES = 2**20  # on one device: what is smaller may lie whole without a word


def tensors(state: Mapping[str, Any], batch: Mapping[str, Any], mesh: Mesh) -> tuple[TensorBytes, ...]:
    """Every argument of the step, in its order."""
    return tuple(_tensor(kind, name, leaf, mesh) for kind, name, leaf in _leaves(state, batch))


def _leaves(state: Mapping[str, Any], batch: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    yield from (("parameters", name, leaf) for name, leaf in state["parameters"].items())
    for slot, values in state["optimizer"].items():
        yield from ((f"optimizer/{slot}", name, leaf) for name, leaf in values.items())
    yield from (("batch", key, leaf) for key, leaf in batch.items())


def _tensor(kind: str, name: str, leaf: Any, mesh: Mesh) -> TensorBytes:
    block = leaf.sharding.shard_shape(leaf.shape)
    used = {axis for part in leaf.sharding.spec if part for axis in ((part,) if isinstance(part, str) else part)}
    return TensorBytes(
        name=name,
        kind=kind,
        shape=tuple(leaf.shape),
        dtype=str(leaf.dtype),
        bytes=math.prod(block) * leaf.dtype.itemsize,
        replicated_over=tuple(axis for axis in mesh.axes if mesh.size(axis) > 1 and axis not in used),
    )


def by_kind(held: Iterable[TensorBytes]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for tensor in held:
        total[tensor.kind] += tensor.bytes
    return dict(total)


def whole_without_need(held: tuple[TensorBytes, ...], mesh: Mesh) -> Iterator[Finding]:
    """Parameters and slots that axes do not divide though these divide most bytes of their kind."""
    for kind in dict.fromkeys(tensor.kind for tensor in held if tensor.kind != "batch"):
        own = [tensor for tensor in held if tensor.kind == kind]
        dividing = [axis for axis in mesh.axes if mesh.size(axis) > 1 and _divides_most(axis, own)]
        for tensor in own:
            axes = tuple(axis for axis in dividing if axis in tensor.replicated_over)
            if axes and tensor.bytes >= LEAST_BYTES:
                yield _whole(tensor, axes, math.prod(mesh.size(axis) for axis in axes))


def idle_axes(held: tuple[TensorBytes, ...], mesh: Mesh) -> Iterator[Finding]:
    """Axes along which every device holds the same state and the same rows, and so computes the same."""
    for axis in mesh.axes:
        if mesh.size(axis) > 1 and all(axis in tensor.replicated_over for tensor in held):
            sentence = f"Nothing is divided over {axis}: its {mesh.size(axis):,} devices hold and compute the same."
            yield Finding(check="memory", sentence=sentence, axes=(axis,))


def _divides_most(axis: str, tensors: list[TensorBytes]) -> bool:
    total = sum(math.prod(tensor.shape) for tensor in tensors)
    return 2 * sum(math.prod(t.shape) for t in tensors if axis not in t.replicated_over) > total


def _whole(tensor: TensorBytes, axes: tuple[str, ...], parts: int) -> Finding:
    return Finding(
        check="memory",
        sentence=(
            f"{tensor.kind}/{tensor.name} is not divided over {' and '.join(axes)}, as most of {tensor.kind} is: each "
            f"device holds {binary_bytes(tensor.bytes)} of it where 1/{parts} would be "
            f"{binary_bytes(tensor.bytes // parts)}."
        ),
        tensor=tensor.name,
        axes=axes,
        bytes=tensor.bytes - tensor.bytes // parts,
    )
