"""Right values in the place of others: swapped at the boundary of a stage, or of another microbatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.compared import Compared
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.diagnosis.inside.messages import linked
from conformance.evidence.intermediates import APART, Intermediate, Intermediates
from conformance.records.results import Cause

RNG = np.random.default_rng(0)
MESH = Mesh.parse("pipeline=2")
OUTPUT = "outputs/y"
X, W = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 3))


def _at(
    number: int, operation: str, rank: int, made: np.ndarray, *sources: int, phase: str = "forward"
) -> Intermediate:
    """The line of an operation is that of its number in its stage, the tens alone."""
    return Intermediate(
        number=number,
        operation=operation,
        place=f"model.py:{number % APART // 10}",
        phase=phase,  # type: ignore[arg-type]
        sources=sources,
        values={rank: made},
    )


def _said(wide: Sequence[Intermediate], twin: Sequence[Intermediate]) -> list[Cause]:
    here, alone = (Intermediates(values=tuple(each), observed={OUTPUT: (each[-1].number,)}) for each in (wide, twin))
    return list(first_divergence(here, alone, MESH, OUTPUT))


def _boundary(swapped: bool, wrong: float = 0.0) -> list[Cause]:
    """The first stage sends two tensors; the second multiplies one and adds the other."""
    hidden, skip = np.tanh(X) + wrong, np.sin(X)
    came, other = (skip, hidden) if swapped else (hidden, skip)
    wide = [
        _at(10, "tanh", 0, hidden),
        _at(20, "sin", 0, skip),
        _at(APART, "permute", 1, came),
        _at(APART + 1, "permute", 1, other),
        _at(APART + 2, "clone", 1, W),
        _at(APART + 30, "mm", 1, came @ W, APART, APART + 2),
        _at(APART + 40, "add", 1, came @ W + other, APART + 30, APART + 1),
    ]
    twin = [_at(10, "tanh", 0, np.tanh(X)), _at(20, "sin", 0, skip), _at(2, "clone", 0, W)]
    twin += [_at(30, "mm", 0, np.tanh(X) @ W, 10, 2), _at(40, "add", 0, np.tanh(X) @ W + skip, 30, 20)]
    return _said(wide, twin)


def test_two_tensors_that_are_swapped_at_a_boundary_are_named() -> None:
    cause = _boundary(swapped=True)[0]
    words = "another value than on one device is used: operand 0 of mm at model.py:3 is what sin at model.py:2 makes"
    assert cause.cause == f"{words}, where one device takes what tanh at model.py:1 makes"
    assert not cause.place


def test_what_is_received_in_its_place_is_not_blamed() -> None:
    assert _boundary(swapped=False) == []
    wrong = _boundary(swapped=False, wrong=0.5)
    assert [cause.cause for cause in wrong] == ["parts from what one device has: tanh at model.py:1, forward pass"]


def _microbatches(late: int) -> list[Cause]:
    """The second microbatch goes forward after the first backward pass: one device has its values in another phase."""
    skips, streams = RNG.normal(size=(2, 2, 4, 3))
    twin, wide = [], []
    for turn in (0, 1):
        phase = "update" if turn else "forward"
        kept = max(turn - late, 0)
        twin += [
            _at(10 + turn, "gelu", 0, skips[turn], phase=phase),
            _at(20 + turn, "sin", 0, streams[turn], phase=phase),
        ]
        wide += [replace(twin[-2], phase="forward"), replace(twin[-1], phase="forward")]
        twin.append(_at(30 + turn, "add", 0, skips[turn] + streams[turn], 20 + turn, 10 + turn, phase=phase))
        wide.append(_at(30 + turn, "add", 0, skips[kept] + streams[turn], 20 + turn, 10 + kept))
    for values in (wide, twin):
        values.append(_at(49, "cat", 0, np.concatenate([values[2].values[0], values[5].values[0]]), 30, 31))
    return _said(wide, twin)


@pytest.mark.parametrize("late", [0, 1])
def test_the_skip_tensor_of_the_microbatch_before_is_named(late: int) -> None:
    words = "a value of another microbatch, or a stale one, is used: operand 1 of add at model.py:3 is what gelu at"
    said = [f"{words} model.py:1 makes, of another turn than one device takes there"] if late else []
    assert [cause.cause for cause in _microbatches(late) if not cause.place] == said


def _deferred(taken: Sequence[int]) -> list[Cause]:
    """Of every microbatch its stream, the gradient that comes back for it, which of the first is zero, and a product.

    The line has one turn more on one device, in which another stage goes back.

    taken   of every turn the microbatch of which it takes the gradient
    """
    streams, gradients = np.tanh(RNG.normal(size=(2, 4, 4, 3)))
    gradients[0] = 0
    twin, wide = [_at(39, "mul", 0, X[:2], phase="backward")], []
    for turn in range(4):
        made = _at(10 + turn, "tanh", 0, streams[turn]), _at(20 + turn, "sin", 0, gradients[turn], phase="backward")
        twin += made
        wide += made
    for values, which in ((twin, range(4)), (wide, taken)):
        products = [gradients[each] * streams[turn] for turn, each in enumerate(which)]
        for turn, product in enumerate(products):
            values.append(_at(30 + turn, "mul", 0, product, 20 + which[turn], 10 + turn, phase="backward"))
        values.append(_at(49, "cat", 0, np.concatenate(products), *range(30, 40), phase="backward"))
    return _said(wide, twin)


@pytest.mark.parametrize(("taken", "named"), [((2, 3, 3, 3), True), ((1, 3, 3, 3), True), ((0, 1, 2, 3), False)])
def test_the_gradient_of_another_microbatch_is_named_and_not_the_stream_that_it_meets(
    taken: Sequence[int], named: bool
) -> None:
    words = "a value of another microbatch, or a stale one, is used: operand 0 of mul at model.py:3 is what sin at"
    said = [f"{words} model.py:2 makes, of another turn than one device takes there"] if named else []
    assert [cause.cause for cause in _deferred(taken) if not cause.place] == said


def test_microbatches_that_are_exchanged_do_not_tell_which_operand_is_the_other() -> None:
    """That two of them meet is all that is said."""
    best, *others = _deferred((0, 2, 1, 3))
    assert best.cause.startswith("values of two turns are combined, of two microbatches perhaps: ")
    assert all(cause.place for cause in others)


def test_terms_that_are_added_in_another_order_are_no_mistake() -> None:
    """Three gradients of one line are summed: the order is the program's own, and what is wrong comes later."""
    first, second, third = RNG.normal(size=(3, 4, 3))
    terms = [_at(10 + n, "mm", 0, term) for n, term in enumerate((first, second, third))]
    twin = [*terms, _at(20, "add", 0, first + second, 10, 11), _at(21, "add", 0, first + second + third, 20, 12)]
    wide = [*terms, _at(20, "add", 0, third + second, 12, 11), _at(21, "add", 0, third + second, 20)]
    assert all(cause.place for cause in _said(wide, twin))


def test_a_message_is_made_of_what_was_sent() -> None:
    """Not of its own copies, nor of what another rank has received and sends on."""
    sent = _at(10, "sin", 0, X)
    values = (sent, _at(APART, "permute", 1, X), _at(APART + 1, "clone", 1, X, APART), _at(2 * APART, "permute", 2, X))
    assert [value.sources for value in linked(Intermediates(values=values)).values] == [(), (10,), (APART,), (10,)]
    lost = Intermediates(values=(_at(APART, "permute", 1, X), _at(APART + 1, "sin", 1, np.sin(X), APART)))
    assert list(Compared(lost, Intermediates(values=()), MESH, OUTPUT).firsts()) == []
