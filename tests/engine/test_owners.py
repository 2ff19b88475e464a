"""Owners: what only some coordinates of an axis hold, in words, on ranks, and in the check of layouts."""

from __future__ import annotations

import pytest

from conformance.contract.mesh import Mesh
from conformance.contract.placements import (
    Owned,
    Shard,
    is_held,
    local_index,
    partial_axes,
    read_placement,
    sharded_dim,
)

MESH = Mesh.parse("data=2,pipeline=4")


def test_owners_are_spoken_once_and_in_order():
    assert str(Owned(3, 0, 3)) == "O(0,3)"
    assert sharded_dim(Owned(2)) is None
    assert partial_axes({"pipeline": Owned(2)}) == ()


@pytest.mark.parametrize("word", ["O()", "O(a)", "O(1,)", "o(1)"])
def test_what_names_no_owner_is_refused(word: str):
    with pytest.raises(ValueError, match=r"O\(coordinate\)"):
        read_placement(word)


def test_only_owners_hold_anything():
    held = [rank for rank in range(MESH.devices) if is_held({"pipeline": Owned(0, 3)}, MESH, rank)]
    assert held == [0, 3, 4, 7]
    assert all(is_held({"data": Shard(0)}, MESH, rank) for rank in range(MESH.devices))


def test_an_owner_on_two_axes_is_one_on_each():
    placements = {"data": Owned(1), "pipeline": Owned(2)}
    assert [rank for rank in range(MESH.devices) if is_held(placements, MESH, rank)] == [6]


def test_owners_divide_nothing():
    assert local_index((6, 4), {"data": Shard(0), "pipeline": Owned(1)}, MESH, 5) == (slice(3, 6), slice(0, 4))
