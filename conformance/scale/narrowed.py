"""Where the partitioner sums gradients in fewer bits than the recipe says.

A partitioner sums a gradient where it is made: as what a product in the compute dtype gives, before it is widened to be
kept. The partitioned program alone says so, since it has the true dtypes.
"""

from __future__ import annotations

from collections.abc import Sequence

from conformance.cases.plan import ScalePlan
from conformance.evidence.arithmetic import BITS
from conformance.records.formatting import binary_bytes
from conformance.scale.record import Collective, Finding

SUMS = ("all_reduce", "reduce_scatter")


def narrowed(collectives: Sequence[Collective], declared: str) -> tuple[Finding, ...]:
    """One finding for each parameter, the largest first. `declared`: the dtype in which gradients are to be summed."""
    groups: dict[str, list[Collective]] = {}
    for each in collectives:
        is_sum = each.level == "partitioned" and each.kind in SUMS and each.tensor
        if is_sum and BITS.get(each.dtype, BITS[declared]) < BITS[declared]:
            groups.setdefault(each.tensor, []).append(each)
    ordered = sorted(groups.items(), key=lambda group: -_bytes(group[1]))
    return tuple(_found(tensor, group, declared) for tensor, group in ordered)


def declared_reduction(plan: ScalePlan) -> tuple[str, ...]:
    """What a plan says of that itself, as a sentence; none where it follows its recipe."""
    if not plan.reduction or plan.reduction == plan.recipe_reduction:
        return ()
    return (
        f"Gradients are summed over devices in {plan.reduction}, as the plan declares; its recipe says "
        f"{plan.recipe_reduction}, in which they are kept and applied.",
    )


def _bytes(group: Sequence[Collective]) -> int:
    return sum(each.payload_bytes for each in group)


def _found(tensor: str, group: Sequence[Collective], declared: str) -> Finding:
    axes = tuple(dict.fromkeys(axis for each in group for axis in each.axes))
    dtypes = " and ".join(dict.fromkeys(each.dtype for each in group))
    sentence = (
        f"The gradient of '{tensor}' is summed over {'+'.join(axes)} in {dtypes}, {binary_bytes(_bytes(group))} in a "
        f"step, where the recipe sums gradients in {declared}."
    )
    return Finding(check="precision", sentence=sentence, tensor=tensor, axes=axes, bytes=_bytes(group))
