"""Where an explicit program sends more or less than its budget says, in sum over all tensors.

FSDP2 combines the parameters of a unit into one buffer, so that no collective is of a single tensor: what is held is
the payload of each phase, kind and set of axes. The program says what it sends, so that the sum is met on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence

from conformance.contract.budget import Allowance
from conformance.contract.mesh import Mesh
from conformance.records.formatting import binary_bytes
from conformance.scale.allowed import allowed_bytes
from conformance.scale.excess import NOTABLE_BYTES, NOTABLE_OF_TENSOR
from conformance.scale.record import Collective, Finding

Sum = tuple[str, str, tuple[str, ...]]  # phase, kind, axes


def differences(collectives: Sequence[Collective], budget: Sequence[Allowance], mesh: Mesh) -> tuple[Finding, ...]:
    """What is sent beyond the budget, and what it names and is not sent, the largest first."""
    sent = _sent(collectives)
    allowed = allowed_bytes(budget, mesh, _key)
    keys = dict.fromkeys([*sent, *allowed])
    more = {key: sum(map(_bytes, sent.get(key, []))) - allowed.get(key, 0) for key in keys}
    notable = [key for key in keys if abs(more[key]) > max(NOTABLE_BYTES, NOTABLE_OF_TENSOR * allowed.get(key, 0))]
    ordered = sorted(notable, key=lambda key: -abs(more[key]))
    return tuple(_found(key, more[key], sent.get(key, []), allowed.get(key, 0)) for key in ordered)


def _key(allowance: Allowance, axes: tuple[str, ...]) -> Sum:
    return allowance.phase or "", allowance.kind, axes


def _sent(collectives: Sequence[Collective]) -> dict[Sum, list[Collective]]:
    groups: dict[Sum, list[Collective]] = {}
    for each in collectives:
        groups.setdefault((each.phase or "", each.kind, each.axes), []).append(each)
    return groups


def _bytes(collective: Collective) -> int:
    return collective.payload_bytes


def _found(key: Sum, more: int, group: Sequence[Collective], allowed: int) -> Finding:
    phase, kind, axes = key
    size = sum(map(_bytes, group))
    budget = f"the budget says {binary_bytes(allowed)}" if allowed else "the budget has none"
    said = f"{kind} over {'+'.join(axes)} in the {phase} pass: {binary_bytes(size)} in a step, {budget}"
    if more > 0:
        largest = max(group, key=_bytes)
        sentence = f"{said}; most of it at {largest.where or 'no place given'}."
        return Finding(check="communication", sentence=sentence, axes=axes, bytes=more)
    if (kind, phase) == ("all_gather", "backward"):
        sentence = f"{said}: what the forward pass gathered is not gathered again, so it is whole or kept until then."
        return Finding(check="memory", sentence=sentence, axes=axes, bytes=-more)
    return Finding(check="communication", sentence=f"{said}.", axes=axes, bytes=-more)
