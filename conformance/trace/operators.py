"""Mutation operators: small changes to one collective of any traced program, that a suite should notice.

The operators are words and conditions only; `conformance.trace` carries them out in JAX and in torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from conformance.contract.errors import ShardproofError
from conformance.contract.implementation import CollectiveKind
from conformance.contract.mesh import Mesh

SiteKind = CollectiveKind | Literal["axis_index"]  # what a program can be changed at: there a rank is read


class MutationError(ShardproofError):
    """A mutation that cannot be carried out on this program; the message is one sentence."""


@dataclass(frozen=True, kw_only=True)
class Collective:
    """What an operator must know about one collective.

    kind             that of a collective, or axis_index (the rank is read)
    reduction        sum, mean, max or min where values are combined; None elsewhere
    axes             the mesh axes it runs over, in mesh order, sizes above 1 only
    size             number of devices that take part in one group
    shape, result    per-device shapes of the first operand and of its result
    floating_bits    width of a floating-point operand; 0 for whole numbers
    has_earlier      an earlier collective had an operand of the same shape and dtype
    """

    kind: SiteKind
    reduction: str | None
    axes: tuple[str, ...]
    size: int
    shape: tuple[int, ...]
    result: tuple[int, ...]
    floating_bits: int
    has_earlier: bool


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One way of being wrong.

    law       what the mutated collective computes
    causes    words of which a right diagnosis has one
    applies   does it make sense for this collective on this mesh?
    neutral   why the operator changes nothing, whatever the values (a sentence); None where it depends on them
    blind_to  values which the operator leaves alone (a clause); None where no such values are thinkable
    reorders  even where it changes nothing, a sum over devices may add up in another order
    """

    name: str
    law: str
    causes: tuple[str, ...]
    applies: Callable[[Collective, Mesh], bool]
    neutral: Callable[[str | None], str | None] = lambda reduction: None
    blind_to: str | None = None
    reorders: bool = False


def other_axes(axes: tuple[str, ...], mesh: Mesh) -> tuple[str, ...]:
    """The axis, or axes, that somebody may have named instead: all others of size above 1, in mesh order."""
    return tuple(axis for axis in mesh.axes if axis not in axes and mesh.size(axis) > 1)


def _can_take_wrong_axis(c: Collective, mesh: Mesh) -> bool:
    others = other_axes(c.axes, mesh)
    if not others or c.kind == "axis_index":
        return False
    size = 1
    for axis in others:
        size *= mesh.size(axis)
    return c.kind == "all_reduce" or size == c.size


def _sums(c: Collective, mesh: Mesh) -> bool:
    return c.reduction == "sum"


def _kinds(*kinds: str) -> Callable[[Collective, Mesh], bool]:
    return lambda c, mesh: c.kind in kinds


def _repeat_is_neutral(reduction: str | None) -> str | None:
    if reduction in ("max", "min", "mean"):
        return f"the {reduction} of values that are already the {reduction} is that same value"
    return None


# A sum that was not made, or a message that stayed where it was: what is held is one device's own.
_NOT_COMBINED = ("missing", "misses", "partial sums", "own mean", "something local", "not combined", "own operand")
_MISPLACED = ("permuted", "shifted", "another order")
_NOT_DELIVERED = ("permuted", "never written")  # a message that came elsewhere, or nowhere


OPERATORS: Mapping[str, Operator] = {
    operator.name: operator
    for operator in (
        Operator(
            name="drop",
            law="every device keeps its own operand: nothing is communicated",
            causes=(*_NOT_COMBINED, *_NOT_DELIVERED),
            applies=lambda c, mesh: c.shape == c.result and c.kind not in ("axis_index", "broadcast"),
        ),
        Operator(
            name="local",
            law="the result has the right shape but is built from the device's own operand alone",
            causes=_NOT_COMBINED,
            applies=lambda c, mesh: c.shape != c.result and c.kind in ("all_gather", "reduce_scatter", "all_to_all"),
        ),
        Operator(
            name="repeat",
            law="the collective is applied a second time: a sum over k devices comes out k times too large",
            causes=("summed twice", "done too often", "counted size-of-axis times", *_NOT_DELIVERED),
            applies=_kinds("all_reduce", "reduce_scatter", "permute"),
            neutral=_repeat_is_neutral,
        ),
        Operator(
            name="wrong_axis",
            law="the collective runs over the other mesh axes instead of its own",
            causes=(*_NOT_COMBINED, "permuted", "instead", "is taken for that along"),
            applies=_can_take_wrong_axis,
        ),
        Operator(
            name="sum_to_mean",
            law="the sum over k devices is divided by k",
            causes=("a mean where a sum is meant", "divided by"),
            applies=_sums,
        ),
        Operator(
            name="mean_to_sum",
            law="the mean over k devices is not divided by k",
            causes=("summed twice",),
            applies=lambda c, mesh: c.reduction == "mean",
        ),
        Operator(
            name="sum_to_max",
            law="the largest operand is taken instead of the sum",
            causes=("largest",),
            applies=_sums,
        ),
        Operator(
            name="shifted_permutation",
            law="every message arrives one device further along the axis",
            causes=(*_MISPLACED, *_NOT_DELIVERED),
            applies=_kinds("permute"),
        ),
        Operator(
            name="reversed_permutation",
            law="every message travels the other way",
            causes=(*_MISPLACED, *_NOT_DELIVERED),
            applies=_kinds("permute"),
            blind_to="a ring of two, which is its own reverse",
        ),
        Operator(
            name="rolled",
            law="the blocks of a gather, scatter or all-to-all are taken one device further round",
            causes=_MISPLACED,
            applies=_kinds("all_gather", "reduce_scatter", "all_to_all"),
            blind_to="blocks that are copies of each other, such as a key head repeated for several devices",
        ),
        Operator(
            name="rank_off_by_one",
            law="a device believes that it is its next neighbour on the axis: index + 1 modulo size",
            causes=(*_MISPLACED, "another mask"),
            applies=_kinds("axis_index"),
            blind_to="a choice of one device among equals, such as the one that counts a replicated value",
            reorders=True,
        ),
        Operator(
            # Not for a maximum: softmax and logsumexp subtract it and do not depend on which value they subtract.
            name="stale_operand",
            law="the operand of the previous collective of that shape and dtype is sent once more",
            causes=("stale", "holds what belongs to", "another value"),
            applies=lambda c, mesh: c.has_earlier and c.reduction not in ("max", "min"),
            blind_to="an operand equal to the one before it, such as a parameter gathered again in the backward pass",
        ),
        Operator(
            name="low_precision",
            law="the operand is rounded to bfloat16 before it is summed; for judging in float32 or float64 only",
            causes=("bfloat16",),
            applies=lambda c, mesh: c.reduction in ("sum", "mean") and c.floating_bits >= 32,
            blind_to="operands that bfloat16 holds exactly, such as small counts",
        ),
    )
}


def applicable(collective: Collective, mesh: Mesh) -> tuple[str, ...]:
    """The names of the operators that apply to a collective on a mesh, in the order of the table."""
    return tuple(name for name, operator in OPERATORS.items() if operator.applies(collective, mesh))
