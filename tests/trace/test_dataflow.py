"""Narrow sums of gradients, told from narrow gradients that have come a long way."""

from __future__ import annotations

from conformance.evidence.arithmetic import GRADIENTS
from conformance.trace.dataflow import ADD, MOVE, OTHER, REDUCE, Node, gradient_sums


def made(kind: str, *sources: Node, backward: int, dtype: str = "bfloat16") -> Node:
    return Node(kind=kind, name=kind, dtype=dtype, sources=list(sources), derived=True, backward=backward)


def test_a_bias_whose_gradient_came_through_two_stages_is_no_sum_of_slices() -> None:
    """Two stages on one rank: what the later one's differentiation makes is handed to the earlier one's."""
    arrived, own = made(OTHER, backward=3), made(OTHER, backward=2)
    of_elements = made(REDUCE, made(ADD, arrived, own, backward=2), backward=2)
    assert not list(gradient_sums("gradients/bias", made(MOVE, of_elements, backward=2, dtype="float32")))


def test_slices_that_are_stacked_and_added_up_are_one() -> None:
    slices = [made(OTHER, backward=number) for number in (2, 3)]
    stacked = made(REDUCE, made(MOVE, *slices, backward=-1), backward=-1)
    [operation] = gradient_sums("gradients/bias", stacked)
    assert (operation.role, operation.dtype) == (GRADIENTS, "bfloat16")
