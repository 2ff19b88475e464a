"""Placements: small values that are written R, S(dim), P and O(k), and read back where people hand them over."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import Declarations, Packed, Sharded, ShardproofError
from conformance.contract.mesh import Mesh
from conformance.contract.placements import (
    Owned,
    Partial,
    Placement,
    PlacementError,
    Replicate,
    Shard,
    is_held,
    local_index,
    partial_axes,
    read_placement,
    read_placements,
    sharded_dim,
    written,
)
from tests.engine.specimen import contract

COORDINATES = st.lists(st.integers(0, 99), min_size=1, max_size=4)
PLACEMENTS = st.one_of(
    st.just(Replicate()),
    st.just(Partial()),
    st.builds(Shard, st.integers(0, 99)),
    st.builds(lambda ranks: Owned(*ranks), COORDINATES),
)
TEXT = {"data": "S(1)", "tensor": "P", "pipeline": "O(0,3)", "sequence": "R"}
TYPES = {"data": Shard(1), "tensor": Partial(), "pipeline": Owned(3, 0), "sequence": Replicate()}


@given(PLACEMENTS)
def test_what_is_written_is_read_back(placement: Placement) -> None:
    assert read_placement(str(placement)) == placement
    assert read_placement(placement) is placement
    assert pickle.loads(pickle.dumps(placement)) == placement


@given(PLACEMENTS, PLACEMENTS)
def test_two_placements_are_equal_if_they_are_written_alike(one_side: Placement, other: Placement) -> None:
    assert (one_side == other) == (str(one_side) == str(other))
    assert len({one_side, other}) == len({str(one_side), str(other)})


def test_a_placement_does_not_change() -> None:
    shard = Shard(1)
    with pytest.raises(FrozenInstanceError):
        shard.dim = 0  # type: ignore[misc]


HANDED: Mapping[str, Callable[[Any], Any]] = {
    "sharded": lambda given: Sharded(local=0, placements=given, shape=(4, 4)).placements,
    "packed": lambda given: Packed(value=0, start=0, size=4, placements=given, shape=(4, 4)).placements,
    "layout": lambda given: Declarations(layout={"w": given}).layout["w"],  # type: ignore[index]
    "contract": lambda given: replace(contract(), layouts={"outputs/y": given}).layouts["outputs/y"],
}


@pytest.mark.parametrize("where", HANDED)
def test_text_that_people_hand_over_is_read(where: str) -> None:
    assert HANDED[where](TEXT) == HANDED[where](TYPES) == TYPES
    assert written(HANDED[where](TEXT)) == TEXT


@pytest.mark.parametrize("where", HANDED)
@pytest.mark.parametrize("wrong", ["sharded", "S(-1)", "S()", "s(0)", "", None, 0, np.s_[0:2]])
def test_a_wrong_placement_is_refused_in_one_sentence(where: str, wrong: Any) -> None:
    with pytest.raises(
        PlacementError, match=r"^Unknown placement .*: write R, P, S\(dim\) or O\(coordinate\)"
    ) as refused:
        HANDED[where]({"data": wrong})
    assert str(refused.value).endswith(".")
    assert isinstance(refused.value, ShardproofError)


def test_placements_by_position_are_refused_in_one_sentence() -> None:
    with pytest.raises(PlacementError, match="written by mesh axis"):
        read_placements([Shard(0)])  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [lambda: Shard(-1), Owned, lambda: Owned(0, -2)])
def test_a_placement_that_cannot_be_is_not_made(make: Callable[[], Placement]) -> None:
    with pytest.raises(PlacementError, match=r"0 or more|counted from 0"):
        make()


def test_a_method_that_returns_text_is_understood() -> None:
    mesh, text = Mesh.parse("data=2,tensor=2,pipeline=4"), {"data": "S(1)", "tensor": "P", "pipeline": "O(2)"}
    types = read_placements(text)
    assert sharded_dim("S(1)") == 1
    assert partial_axes(text) == partial_axes(types) == ("tensor",)  # type: ignore[arg-type]
    for rank in range(mesh.devices):
        assert is_held(text, mesh, rank) == is_held(types, mesh, rank)  # type: ignore[arg-type]
        assert local_index((4, 6), text, mesh, rank) == local_index((4, 6), types, mesh, rank)  # type: ignore[arg-type]
