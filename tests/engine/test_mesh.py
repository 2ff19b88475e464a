"""Meshes and placements: every rank and every element is somewhere, once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.cases.case import Case
from conformance.cases.selection import parse_case
from conformance.contract.mesh import ORDERS, Mesh, MeshError
from conformance.contract.placements import Shard, local_index

AXES = ("data", "fsdp", "tensor", "pipeline", "dp", "tp", "model", "x", "dp_replicate", "dp_shard_cp", "tensor2d", "X_")
SIZES = st.dictionaries(st.sampled_from(AXES), st.integers(1, 4), min_size=1, max_size=3)
MESHES = st.builds(lambda sizes, order: Mesh(sizes=tuple(sizes.items()), order=order), SIZES, st.sampled_from(ORDERS))


@given(MESHES)
def test_a_mesh_reads_what_it_writes(mesh: Mesh) -> None:
    assert Mesh.parse(str(mesh)) == mesh


@given(MESHES)
def test_a_mesh_is_read_back_from_a_case_id(mesh: Mesh) -> None:
    assert Mesh.from_slug(mesh.slug) == mesh
    case = Case(contract="a/b", implementation="jax-mine", mesh=mesh, dtype="float64", seed=3)
    assert parse_case(case.id) == case


@given(MESHES)
def test_every_device_sits_at_one_rank(mesh: Mesh) -> None:
    assert sorted(mesh.device_order) == list(range(mesh.devices))


@given(MESHES)
def test_groups_of_an_axis_cover_the_ranks_and_differ_along_it_only(mesh: Mesh) -> None:
    for axis in mesh.axes:
        groups = mesh.groups(axis)
        assert sorted(itertools.chain(*groups)) == list(range(mesh.devices))
        for group in groups:
            assert [mesh.coordinates(rank)[axis] for rank in group] == list(range(mesh.size(axis)))
            others = [{k: v for k, v in mesh.coordinates(rank).items() if k != axis} for rank in group]
            assert all(other == others[0] for other in others)


@given(MESHES, st.integers(0, 9), st.integers(1, 9))
def test_shards_of_any_size_cover_a_tensor_once(mesh: Mesh, rows: int, columns: int) -> None:
    placements = dict(zip(mesh.axes, (Shard(0), Shard(1), Shard(0)), strict=False))
    held = np.zeros((rows, columns), dtype=int)
    for rank in range(mesh.devices):
        held[local_index((rows, columns), placements, mesh, rank)] += 1
    assert (held == 1).all()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("tensor2=4", "cannot name a mesh axis"),
        ("a2_b=4", "cannot name a mesh axis"),
        ("2d=4", "cannot name a mesh axis"),
        ("my-axis=4", "cannot name a mesh axis"),
        ("tensor=0", "size 0"),
        ("tensor=2,tensor=2", "twice"),
        ("tensor", "write axis=size"),
        ("tensor=4@sideways", "Unknown device order"),
        ("", "write axis=size"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused_in_one_sentence(text: str, part: str) -> None:
    with pytest.raises(MeshError, match=part) as refusal:
        Mesh.parse(text)
    assert str(refusal.value).endswith(".")
