"""Where a partitioned program sends more than its budget allows, tensor by tensor.

The partitioner may choose; it may not send more. For each kind, set of axes and tensor the payload of all phases is
held against the allowances of the same. An excess is listed where it is more than a small share of what is allowed: of
what is allowed for the tensor, or for all activations together, which no tensor tells apart.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    above = [(_above(group, allowed.get(key, 0)), key, group) for key, group in groups.items()]
    notable = (entry for entry in above if entry[0] > _least(entry[1][2], allowed))
    listed = sorted(notable, key=lambda entry: -entry[0])
    return tuple(_found(more, key, group, allowed) for more, key, group in listed)


def _least(tensor: str, allowed: dict[Key, int]) -> float:
    """Bytes above the budget that are not worth a sentence."""
    share = NOTABLE_OF_TENSOR if tensor else NOTABLE_OF_ACTIVATIONS
    return max(NOTABLE_BYTES, share * sum(size for key, size in allowed.items() if key[2] == tensor))


def _above(group: Sequence[Collective], allowed: int) -> int:
    return sum(collective.payload_bytes for collective in group) - allowed


def _found(more: int, key: Key, group: Sequence[Collective], allowed: dict[Key, int]) -> Finding:
    kind, axes, tensor = key
    largest = max(group, key=lambda collective: collective.payload_bytes)
    what = f"of '{tensor}'" if tensor else f"of activations ({largest.where or 'no place given'})"
    budget = f"the budget allows {binary_bytes(allowed[key])}" if key in allowed else "the budget has none"
    others = sorted({f"{k} over {'+'.join(a)}" for k, a, t in allowed if tensor and t == tensor})
    instead = f"; it allows {' and '.join(others)}" if others and key not in allowed else ""
    payload = sum(collective.payload_bytes for collective in group)
    return Finding(
        check="communication",
        sentence=f"{kind} over {'+'.join(axes)} {what}: {binary_bytes(payload)} in a step, {budget}{instead}.",
        tensor=tensor,
        axes=axes,
        bytes=more,
    )
