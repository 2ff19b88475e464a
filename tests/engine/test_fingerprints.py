"""A block passes its own fingerprint, whatever rounding and filling up do to it; few other blocks do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.blocks import CLOSE, cut
from conformance.diagnosis.inside.fingerprints import Fingerprints

ELEMENTS, BLOCKS = 12, 20


def _blocks(seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(BLOCKS, 3, ELEMENTS // 3)))


def _largest(blocks: list[np.ndarray]) -> list[float]:
    return [float(np.nanmax(np.abs(block), initial=1.0)) for block in blocks]


@given(
    seed=st.integers(0, 1000),
    place=st.integers(0, BLOCKS - 1),
    filled=st.integers(0, 3),
    rounding=st.floats(-0.5, 0.5),
)
def test_a_block_is_known_again(seed: int, place: int, filled: int, rounding: float) -> None:
    blocks = _blocks(seed)
    held = blocks[place] + rounding * CLOSE
    blocks[place][3 - filled :] = np.nan
    assert place in Fingerprints.of(blocks, _largest(blocks)).like(held)


@pytest.mark.parametrize("filled", [0, 1])
def test_others_are_not(filled: int) -> None:
    blocks = _blocks(3)
    held = blocks[7].copy()
    for block in blocks:
        block[3 - filled :] = np.nan
    assert Fingerprints.of(blocks, _largest(blocks)).like(held) == [7]


def test_what_is_nothing_but_filled_up_may_be_anything() -> None:
    blocks = [np.full((3, 4), np.nan), np.ones((3, 4))]
    assert Fingerprints.of(blocks, [1.0, 1.0]).like(np.arange(12.0).reshape(3, 4)) == [0]


@given(size=st.integers(1, 17), axes=st.permutations(("data", "tensor")))
def test_blocks_of_all_ranks_are_the_whole_and_what_fills_it_up(size: int, axes: list[str]) -> None:
    mesh = Mesh.parse("data=2,tensor=3")
    x = np.arange(float(size))
    dims = tuple((axis, 0) for axis in axes)
    places = sorted(range(mesh.devices), key=lambda rank: [mesh.coordinates(rank)[axis] for axis in axes])
    together = np.concatenate([cut(x, dims, mesh, mesh.coordinates(rank)) for rank in places])
    assert together.size == -(-size // mesh.devices) * mesh.devices
    np.testing.assert_array_equal(together[:size], x)
    assert np.isnan(together[size:]).all()
