"""Where a partitioned program sends more than its budget allows, tensor by tensor.

The partitioner may choose: gather a product's operand where the budget sums its result, say. It may not send more. So
bytes on the wire are held, by set of axes, for each parameter and for all activations together. A parameter that is not
named in the budget for these axes may send nothing there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from conformance.contract.budget import Allowance
from conformance.contract.mesh import Mesh
from conformance.evidence.partitioned import Partitioned, Sent
from conformance.records.formatting import binary_bytes
from conformance.traffic.collective_op import Buffer
from conformance.traffic.wire import wire_bytes

ACTIVATIONS = ""
Key = tuple[tuple[str, ...], str]  # axes, and the name of a parameter or ACTIVATIONS


@dataclass(frozen=True, kw_only=True)
class Excess:
    """What goes beyond the budget over one set of axes: bytes on the wire per device and step.

    largest  what sends most of it
    others   what the budget allows the same parameter over other axes
    """

    key: Key
    sent: int
    allowed: int
    largest: Sent
    others: tuple[str, ...] = ()

    @property
    def beyond(self) -> int:
        return self.sent - self.allowed

    @property
    def sentence(self) -> str:
        axes, parameter = self.key
        place = self.largest.tensor or self.largest.where or "no place given"
        what = f"'{parameter}'" if parameter else "activations"
        most = f"most of it {self.largest.kind} in {self.largest.dtype} of '{place}'"
        budget = f"the budget allows {binary_bytes(self.allowed)}" if self.allowed else "the budget has none"
        elsewhere = f", and allows it over {' and '.join(self.others)}" if self.others else ""
        return (
            f"{'wrong axis' if self.others and not self.allowed else 'extra'}: the partitioned program sends "
            f"{binary_bytes(self.sent)} of {what} over {'+'.join(axes)} in a step, {most}; {budget}{elsewhere}."
        )


def excess(made: Partitioned, budget: Iterable[Allowance], mesh: Mesh, parameters: Iterable[str]) -> tuple[Excess, ...]:
    """What is sent above the budget, the largest excess first."""
    names, groups = frozenset(parameters), dict[Key, list[Sent]]()
    for sent in made.sent:
        groups.setdefault((sent.axes, parameter_of(sent.tensor, names)), []).append(sent)
    allowed = _allowed(budget, mesh)
    found = [_excess(key, group, allowed) for key, group in groups.items()]
    return tuple(sorted((each for each in found if each.beyond > 0), key=lambda each: -each.beyond))


def parameter_of(tensor: str, parameters: frozenset[str]) -> str:
    """The parameter itself, its gradient or a slot of it; ACTIVATIONS for anything else."""
    parts = tensor.split("/")
    return next((name for name in ("/".join(parts[n:]) for n in range(len(parts))) if name in parameters), ACTIVATIONS)


def _allowed(budget: Iterable[Allowance], mesh: Mesh) -> dict[Key, int]:
    allowed: dict[Key, int] = {}
    for allowance in budget:
        if axes := tuple(axis for axis in mesh.axes if axis in allowance.axes and mesh.size(axis) > 1):
            payload = Buffer(dtype=allowance.dtype, elements=allowance.elements).bytes * allowance.calls
            size = wire_bytes(allowance.kind, payload, math.prod(map(mesh.size, axes)))
            allowed[axes, allowance.tensor] = allowed.get((axes, allowance.tensor), 0) + size
    return allowed


def _excess(key: Key, group: Sequence[Sent], allowed: Mapping[Key, int]) -> Excess:
    axes, parameter = key
    others = sorted({"+".join(other) for other, name in allowed if parameter and name == parameter and other != axes})
    return Excess(
        key=key,
        sent=sum(sent.wire_bytes for sent in group),
        allowed=allowed.get(key, 0),
        largest=max(group, key=lambda sent: sent.wire_bytes),
        others=tuple(others),
    )
