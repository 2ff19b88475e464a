"""A program that keeps the tokens of a row in an order of its own, and says so: values are compared in that order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from conformance.contract.implementation import Reordered
from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.diagnosis.inside.orders import in_orders, stored
from conformance.evidence.intermediates import Intermediates
from conformance.evidence.orders import Order, orders_of
from conformance.records.results import Cause
from tests.engine.values_inside import at

RNG = np.random.default_rng(0)
MESH = Mesh.parse("sequence=2")
ZIGZAG = (0, 1, 6, 7, 2, 3, 4, 5)  # of four chunks, rank 0 has the first and the last one
OUTPUT = "outputs/y"


def _halves(x: np.ndarray) -> dict[int, np.ndarray]:
    stored_so = x[:, list(ZIGZAG)]
    return {0: stored_so[:, :4], 1: stored_so[:, 4:]}


def _said(orders: Sequence[Order], wrong: float = 0.0) -> list[Cause]:
    """Two rows of eight tokens: what is added to a wrong value is what makes it wrong."""
    x = RNG.normal(size=(2, 8, 3))
    y = np.tanh(x)
    here = {rank: block + wrong for rank, block in _halves(y).items()}
    wide = [
        at(0, "sin", _halves(x)),
        at(1, "tanh", here, 0),
        at(2, "exp", {r: np.exp(b) for r, b in here.items()}, 1),
    ]
    twin = [at(0, "sin", {0: x}), at(1, "tanh", {0: y}, 0), at(2, "exp", {0: np.exp(y)}, 1)]
    program = Intermediates(values=tuple(wide), observed={OUTPUT: (2,)}, orders=tuple(orders))
    return list(first_divergence(program, Intermediates(values=tuple(twin), observed={OUTPUT: (2,)}), MESH, OUTPUT))


def test_values_in_the_order_that_a_program_says_are_right() -> None:
    assert _said([ZIGZAG]) == []
    assert _said([]), "without it nothing is known again"


def test_a_wrong_one_is_named_where_it_goes_wrong() -> None:
    assert "tanh at model.py:1" in _said([ZIGZAG], wrong=0.5)[0].cause


def test_the_orders_are_those_of_what_is_observed() -> None:
    rows = np.zeros((2, 8))

    def held(index: Sequence[int], size: int = 8) -> Reordered:
        return Reordered(value=rows, shape=(2, size), index_map={1: np.array(index)})

    assert orders_of({"a": held(ZIGZAG), "b": held(ZIGZAG), "c": rows}) == (ZIGZAG,)
    assert orders_of({"as it is": held(range(8))}) == ()
    assert (
        orders_of({"padded": held([0, 1, 2, 3, 4, 5, 6, -1], 7), "repeated": held([0, 0, 1, 1, 2, 2, 3, 3], 4)}) == ()
    )
    assert orders_of(None) == ()


@pytest.mark.parametrize(("shape", "dim"), [((8, 3), 0), ((2, 8), 1), ((3, 5), None)])
def test_dims_of_that_length_are_put_in_order(shape: tuple[int, ...], dim: int | None) -> None:
    x = RNG.normal(size=shape)
    wanted = x if dim is None else np.take(x, ZIGZAG, axis=dim)
    np.testing.assert_array_equal(in_orders(x, [ZIGZAG]), wanted)


def test_rows_that_lie_end_to_end_are_put_in_order_each() -> None:
    x = RNG.normal(size=(2, 8, 3))
    flat = in_orders(x.reshape(16, 3), [ZIGZAG])
    np.testing.assert_array_equal(flat, x[:, list(ZIGZAG)].reshape(16, 3))


def test_where_nothing_is_reordered_the_values_are_the_very_same() -> None:
    twin = Intermediates(values=(at(0, "sin", {0: RNG.normal(size=8)}),))
    assert stored(twin, ()) is twin
    assert stored(twin, (ZIGZAG,)) is stored(twin, (ZIGZAG,)) is not twin


@pytest.mark.parametrize("contiguous", [False, True])
def test_rows_in_the_order_of_one_device_beside_those_that_are_kept_otherwise_are_named(contiguous: bool) -> None:
    """Angles of a contiguous block, for tokens that lie in a zigzag."""
    x, angles = RNG.normal(size=(2, 8, 3)), RNG.normal(size=(1, 8, 3))
    taken = {0: angles[:, :4], 1: angles[:, 4:]} if contiguous else _halves(angles)
    wide = [at(0, "sin", _halves(x)), at(1, "cos", taken)]
    wide.append(at(2, "mul", {rank: block * taken[rank] for rank, block in _halves(x).items()}, 0, 1))
    twin = [at(0, "sin", {0: x}), at(1, "cos", {0: angles}), at(2, "mul", {0: x * angles}, 0, 1)]
    program = Intermediates(values=tuple(wide), observed={OUTPUT: (2,)}, orders=(ZIGZAG,))
    alone = Intermediates(values=tuple(twin), observed={OUTPUT: (2,)})
    said = [cause.cause for cause in first_divergence(program, alone, MESH, OUTPUT)]
    words = "right rows, of other places than those that they are combined with: operand 1 of mul at model.py:2"
    assert said[:1] == ([f"{words}, which cos at model.py:1 makes"] if contiguous else [])
