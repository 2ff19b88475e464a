"""Assembly and tolerance: what ranks hold against what one device holds, and how far it may be off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.evidence.evidence import Block, Observed
from conformance.evidence.gather import copies, deviation, disagreements, distance, gathered, ranks_beyond
from conformance.evidence.tolerance import allowed, block_starts, excess
from tests.engine.specimen import MESH, sharded

VALUE = np.arange(48.0).reshape(6, 8)


def _on_one_axis(blocks: list[Block]) -> Observed:
    return Observed(shape=(4,), dtype="float64", blocks=tuple(blocks))


def test_blocks_make_the_whole_again() -> None:
    assert np.array_equal(gathered(sharded("gradients/w", VALUE), MESH), VALUE)


def test_partial_sums_are_summed_before_they_are_compared() -> None:
    mesh = Mesh.parse("tensor=4")
    parts = [
        Block(ranks=(rank,), index=(slice(0, 4),), value=np.full(4, rank + 1.0), partial=("tensor",))
        for rank in range(4)
    ]
    assert deviation(_on_one_axis(parts), np.full(4, 10.0), mesh).max() == 0


def test_the_farthest_copy_counts_and_its_rank_is_named() -> None:
    observed = sharded("gradients/b", np.ones(8))
    blocks = (
        replace(observed.blocks[0], ranks=(0, 1, 2, 3, 4, 5, 6)),
        Block(ranks=(7,), index=(slice(0, 8),), value=np.full(8, 3.0)),
    )
    off = replace(observed, blocks=blocks)
    assert deviation(off, np.ones(8), MESH).max() == 2
    assert ranks_beyond(off, np.ones(8), np.full(8, 0.5), MESH) == (7,)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_infinitely_far(value: float) -> None:
    assert np.isinf(deviation(sharded("gradients/b", np.full(8, value)), np.ones(8), MESH)).all()


def test_equal_infinities_are_no_distance_apart() -> None:
    """A mask may leave them in what is observed; what lies beside them is held all the same."""
    masked = np.array([[1.0, -np.inf], [np.inf, 2.0]])
    assert distance(masked, masked).tolist() == [[0, 0], [0, 0]]
    assert distance(masked, masked + np.array([[0, 0], [0, 0.5]])).tolist() == [[0, 0], [0, 0.5]]
    assert distance(masked, np.zeros((2, 2))).tolist() == [[1, np.inf], [np.inf, 2]]
    assert np.isnan(distance(np.array([np.nan]), np.array([0.0]))).all()


def test_what_no_rank_holds_is_infinitely_far() -> None:
    observed = _on_one_axis([Block(ranks=(0,), index=(slice(0, 3),), value=np.zeros(3))])
    assert deviation(observed, np.zeros(4), Mesh.parse("tensor=1")).tolist() == [0, 0, 0, np.inf]


def test_copies_under_index_arrays_are_compared_where_they_overlap() -> None:
    ours = Block(ranks=(0,), index=(np.array([0, 2]),), value=np.array([1.0, 5.0]))
    same = Block(ranks=(1,), index=(np.array([2, 3]),), value=np.array([5.0, 7.0]))
    other = Block(ranks=(1,), index=(np.array([2, 3]),), value=np.array([6.0, 7.0]))
    assert not list(disagreements(_on_one_axis([ours, same])))
    assert len(list(disagreements(_on_one_axis([ours, other])))) == 1
    assert copies(_on_one_axis([ours, same])) == 1


@pytest.mark.parametrize("shape", [(), (1,), (5,), (100,), (1000, 3), (7, 64), (0, 4)])
def test_row_blocks_cover_every_row(shape: tuple[int, ...]) -> None:
    starts = block_starts(shape)
    assert starts[0] == 0
    assert len(starts) <= 16
    assert (np.diff(starts) > 0).all()


def test_a_fault_in_one_row_block_is_not_hidden_by_noise_in_another() -> None:
    magnitude, noise = np.ones((64, 32)), np.full((64, 32), 1e-16)
    noise[32:] = 1e-3
    error = np.zeros((64, 32))
    error[3, 5] = 1e-8
    excesses = excess(error, magnitude, noise, 2.0**-52)
    assert excesses.rows[0] <= 3 < excesses.rows[1]
    assert excesses.ratio > 1e6
    assert allowed(magnitude, noise, 2.0**-52, 8.0)[3, 5] < 1e-14


def test_a_true_zero_must_be_zero() -> None:
    nothing = np.zeros((4, 40))
    assert excess(nothing, nothing, nothing, 2.0**-52).ratio == 0
    assert excess(nothing + 1e-300, nothing, nothing, 2.0**-52).ratio == np.inf
