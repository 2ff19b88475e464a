"""Where a partitioned program sends more than its budget allows, tensor by tensor.

The partitioner may choose; it may not send more. For each kind, set of axes and tensor the payload of all phases is
held against the allowances of the same. An excess is listed where it is more than a small share of what is allowed: of
what is allowed for the tensor, or for all activations together, which no tensor tells apart.

A partitioner may hand blocks of a tensor round while it multiplies, in place of gathering or reduce-scattering it (Wang
et al., Overlap Communication with Dependent Computation via Decomposition, 2023): permutes, in both directions, of one
block more than the ranks are. They are held against what is allowed of those kinds and not sent as such.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from conformance.contract.budget import Allowance
from conformance.contract.mesh import Mesh
from conformance.records.formatting import binary_bytes
from conformance.scale.allowed import allowed_bytes
from conformance.scale.record import Collective, Finding

NOTABLE_OF_TENSOR, NOTABLE_OF_ACTIVATIONS = 0.02, 0.0005
NOTABLE_BYTES = 2**20
Key = tuple[str, tuple[str, ...], str]  # kind, axes, tensor


def excess(collectives: Sequence[Collective], budget: Sequence[Allowance], mesh: Mesh) -> tuple[Finding, ...]:
    """What is sent above the budget, the largest excess first."""
    allowed = allowed_bytes(budget, mesh, lambda allowance, axes: (allowance.kind, axes, allowance.tensor))
    groups: dict[Key, list[Collective]] = {}
    for collective in collectives:
        groups.setdefault((collective.kind, collective.axes, collective.tensor), []).append(collective)
    above = [
        (_payload(group) - allowed.get(key, _handed_round(key, groups, allowed, mesh)), key, group)
        for key, group in groups.items()
    ]
    notable = (entry for entry in above if entry[0] > _least(entry[1][2], allowed))
    listed = sorted(notable, key=lambda entry: -entry[0])
    return tuple(_found(more, key, group, allowed) for more, key, group in listed)


def _least(tensor: str, allowed: dict[Key, int]) -> float:
    """Bytes above the budget that are not worth a sentence."""
    share = NOTABLE_OF_TENSOR if tensor else NOTABLE_OF_ACTIVATIONS
    return max(NOTABLE_BYTES, share * sum(size for key, size in allowed.items() if key[2] == tensor))


def _payload(group: Sequence[Collective]) -> int:
    return sum(collective.payload_bytes for collective in group)


def _handed_round(key: Key, groups: Mapping[Key, Sequence[Collective]], allowed: Mapping[Key, int], mesh: Mesh) -> int:
    """Bytes of permutes that take the place of what a tensor may be gathered and reduce-scattered by, and is not."""
    kind, axes, tensor = key
    if kind != "permute" or not tensor:
        return 0
    others = [(other, axes, tensor) for other in ("all_gather", "reduce_scatter")]
    spare = sum(max(0, allowed.get(other, 0) - _payload(groups.get(other, ()))) for other in others)
    ranks = math.prod(mesh.size(axis) for axis in axes)
    return spare + spare // ranks


def _found(more: int, key: Key, group: Sequence[Collective], allowed: dict[Key, int]) -> Finding:
    kind, axes, tensor = key
    largest = max(group, key=lambda collective: collective.payload_bytes)
    what = f"of '{tensor}'" if tensor else f"of activations ({largest.where or 'no place given'})"
    budget = f"the budget allows {binary_bytes(allowed[key])}" if key in allowed else "the budget has none"
    others = sorted({f"{k} over {'+'.join(a)}" for k, a, t in allowed if tensor and t == tensor})
    instead = f"; it allows {' and '.join(others)}" if others and key not in allowed else ""
    return Finding(
        check="communication",
        sentence=f"{kind} over {'+'.join(axes)} {what}: {binary_bytes(_payload(group))} in a step, {budget}{instead}.",
        tensor=tensor,
        axes=axes,
        bytes=more,
    )
