"""Blocks in canonical terms, without any framework: permuted, padded, repeated, empty, and what cannot be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from conformance.contract.implementation import Reordered
from conformance.contract.mesh import Mesh
from conformance.evidence.evidence import Block, Observed
from conformance.evidence.gather import gathered
from conformance.workers.observe import Unreadable, arranged, plain, widened

MESH = Mesh.parse("tensor=2")


def stored(*rows: Sequence[float], partial: tuple[str, ...] = ()) -> Observed:
    """Rank r holds the r-th part of dim 0."""
    values = [np.array(part, dtype=np.float64) for part in rows]
    stops = np.cumsum([len(value) for value in values])
    blocks = tuple(
        Block(ranks=(rank,), index=(slice(int(stop) - len(value), int(stop)),), value=value, partial=partial)
        for rank, (value, stop) in enumerate(zip(values, stops, strict=True))
    )
    return Observed(shape=(int(stops[-1]),), dtype="float64", blocks=blocks)


def how(*positions: int, size: int) -> Reordered:
    return Reordered(value=None, shape=(size,), index_map={0: np.array(positions)})


@pytest.mark.parametrize(
    ("observed", "arrangement", "whole"),
    [
        (stored([30, 10], [20, 0]), how(3, 1, 2, 0, size=4), [0, 10, 20, 30]),
        (stored([0, 10, 20], [30, -9, -9]), how(0, 1, 2, 3, -1, -1, size=4), [0, 10, 20, 30]),
        (stored([0, 10], [-9, -9]), how(0, 1, -1, -1, size=2), [0, 10]),
        (stored([0, 0], [10, 10]), how(0, 0, 1, 1, size=2), [0, 10]),
        (stored([0, 10], []), how(1, 0, size=2), [10, 0]),
    ],
    ids=["permuted", "padded", "only padding", "repeated", "empty"],
)
def test_elements_stand_at_their_canonical_index(observed: Observed, arrangement: Reordered, whole: list[int]) -> None:
    laid = arranged(observed, arrangement)
    assert np.array_equal(gathered(laid, MESH), whole)
    assert laid.stored_shape == observed.shape


def test_a_partial_sum_stays_one() -> None:
    laid = arranged(stored([1, 2], partial=("tensor",)), how(1, 0, size=2))
    assert [block.partial for block in laid.blocks] == [("tensor",)]


@pytest.mark.parametrize(
    ("arrangement", "sentence"),
    [
        (how(0, 1, 2, size=4), "4 stored elements, but its index map has 3"),
        (how(0, 1, 2, 4, size=4), "outside its 4 elements"),
        (how(0, 1, 2, -2, size=4), "outside its 4 elements"),
        (Reordered(value=None, shape=(2, 2), index_map={}), "1 dims and arranged into 2"),
        (Reordered(value=None, shape=(3,), index_map={}), "4 stored elements for 3"),
    ],
)
def test_positions_that_cannot_be_are_refused(arrangement: Reordered, sentence: str) -> None:
    with pytest.raises(Unreadable, match=sentence):
        arranged(stored([0, 1], [2, 3]), arrangement)


@pytest.mark.parametrize("value", [None, "loss", object(), [1, "a"], {"a": 1}])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(Unreadable):
        plain(value, range(2))


def test_a_plain_scalar_is_one_block_of_all_ranks() -> None:
    [block] = plain(2.5, range(2)).blocks
    assert (block.ranks, block.index, float(block.value)) == ((0, 1), (), 2.5)


def test_a_plain_array_is_copied() -> None:
    array = np.zeros(2)
    observed = plain(array, range(2))
    array[0] = 1
    assert not observed.blocks[0].value.any()


def test_numpy_numbers_are_not_widened() -> None:
    array = np.array([1.5], dtype=np.float16)
    assert widened(array) is array
