"""Owners: what only some coordinates of an axis hold, in words, on ranks, and in the check of layouts."""

from __future__ import annotations

import pytest

from conformance.contract.mesh import Mesh
from conformance.contract.placements import is_held, local_index, owned_by, partial_axes, sharded_dim

MESH = Mesh.parse("data=2,pipeline=4")


def test_owners_are_spoken_once_and_in_order():
    assert owned_by(3, 0, 3) == "O(0,3)"
    assert sharded_dim(owned_by(2)) is None
    assert partial_axes({"pipeline": owned_by(2)}) == ()


@pytest.mark.parametrize("word", ["O()", "O(a)", "O(1,)", "o(1)"])
def test_what_names_no_owner_is_refused(word: str):
    with pytest.raises(ValueError, match=r"O\(coordinate\)"):
        sharded_dim(word)


def test_only_owners_hold_anything():
    held = [rank for rank in range(MESH.devices) if is_held({"pipeline": owned_by(0, 3)}, MESH, rank)]
    assert held == [0, 3, 4, 7]
    assert all(is_held({"data": "S(0)"}, MESH, rank) for rank in range(MESH.devices))


def test_an_owner_on_two_axes_is_one_on_each():
    placements = {"data": owned_by(1), "pipeline": owned_by(2)}
    assert [rank for rank in range(MESH.devices) if is_held(placements, MESH, rank)] == [6]


def test_owners_divide_nothing():
    assert local_index((6, 4), {"data": "S(0)", "pipeline": owned_by(1)}, MESH, 5) == (slice(3, 6), slice(0, 4))
