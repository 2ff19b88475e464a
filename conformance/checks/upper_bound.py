"""Where a partitioned program sends more than its budget allows, and the tensor that causes it.

The partitioner may choose: gather the weight of a product where the budget sums its result, say. It may not send more.
So bytes on the wire are held, over each set of axes, to all that the budget allows there. What is named is the
parameter, or the activations, that goes farthest beyond its own share.
"""

from __future__ import annotations

import math
import re
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

    parameter      that goes farthest beyond its share, or ACTIVATIONS
    sent, allowed  in all
    own, share     of them what is of that parameter
    largest        what sends most of it
    others         axes over which the budget allows that parameter something, where it allows it nothing over these
    """

    axes: tuple[str, ...]
    parameter: str
    sent: int
    allowed: int
    own: int
    share: int
    largest: Sent
    others: tuple[str, ...] = ()

    @property
    def beyond(self) -> int:
        return self.sent - self.allowed

    @property
    def tensor(self) -> str:
        return self.parameter or self.largest.tensor or self.largest.where or "activations"

    @property
    def sentence(self) -> str:
        what = f"'{self.parameter}'" if self.parameter else "activations"
        where = f" at '{self.largest.tensor or self.largest.where}'" if not self.parameter else ""
        elsewhere = f", whose budget is over {_some(self.others)}" if self.others else ""
        return (
            f"{'wrong axis' if self.others else 'extra'}: the partitioned program sends {binary_bytes(self.sent)} over "
            f"{'+'.join(self.axes)} in a step, where the budget allows {binary_bytes(self.allowed)}; farthest beyond "
            f"its share of {binary_bytes(self.share)} is {what} with {binary_bytes(self.own)}, most of it "
            f"{self.largest.kind} in {self.largest.dtype}{where}{elsewhere}."
        )


def _some(axes: tuple[str, ...]) -> str:
    """The first two, and how many there are besides."""
    more = f" and {len(axes) - 2} other sets of axes" if len(axes) > 2 else ""
    return (" or " if not more else ", ").join(axes[:2]) + more


def excess(made: Partitioned, budget: Iterable[Allowance], mesh: Mesh, parameters: Iterable[str]) -> tuple[Excess, ...]:
    """What is sent above the budget, the largest excess first. A stack of parameters has its name from the budget."""
    budget = tuple(budget)
    names = frozenset((*parameters, *(each.tensor for each in budget if each.tensor)))
    groups = dict[Key, list[Sent]]()
    for sent in made.sent:
        groups.setdefault((sent.axes, parameter_of(sent.tensor, names)), []).append(sent)
    allowed = _allowed(budget, mesh)
    excesses = [_excess(axes, groups, allowed) for axes in dict.fromkeys(axes for axes, _ in groups)]
    return tuple(sorted((each for each in excesses if each.beyond > 0), key=lambda each: -each.beyond))


def parameter_of(tensor: str, parameters: frozenset[str]) -> str:
    """The parameter itself, its gradient or a slot of it; ACTIVATIONS for anything else.

    Of layers that lie in one stack: the stack, `layers.*.x`, which is what a budget names.
    """
    parts = tensor.split("/")
    names = ["/".join(parts[n:]) for n in range(len(parts))]
    stacked = [re.sub(r"\.\d+\.", ".*.", name) for name in names]
    return next((name for name in (*stacked, *names) if name in parameters), ACTIVATIONS)


def _allowed(budget: Iterable[Allowance], mesh: Mesh) -> dict[Key, int]:
    allowed: dict[Key, int] = {}
    for allowance in budget:
        if axes := tuple(axis for axis in mesh.axes if axis in allowance.axes and mesh.size(axis) > 1):
            payload = Buffer(dtype=allowance.dtype, elements=allowance.elements).bytes * allowance.calls
            size = wire_bytes(allowance.kind, payload, math.prod(map(mesh.size, axes)))
            allowed[axes, allowance.tensor] = allowed.get((axes, allowance.tensor), 0) + size
    return allowed


def _excess(axes: tuple[str, ...], groups: Mapping[Key, Sequence[Sent]], allowed: Mapping[Key, int]) -> Excess:
    own = {name: sum(each.wire_bytes for each in group) for (over, name), group in groups.items() if over == axes}
    shares = {name: size for (over, name), size in allowed.items() if over == axes}
    worst = max(own, key=lambda name: own[name] - shares.get(name, 0))
    others = sorted({"+".join(over) for over, name in allowed if worst and name == worst and worst not in shares})
    return Excess(
        axes=axes,
        parameter=worst,
        sent=sum(own.values()),
        allowed=sum(shares.values()),
        own=own[worst],
        share=shares.get(worst, 0),
        largest=max(groups[axes, worst], key=lambda sent: sent.wire_bytes),
        others=tuple(others),
    )
