"""Collectives in branches: which of them a device runs follows from its place and a table of the program.

Nothing is compiled: the program is traced and read.
"""

from __future__ import annotations

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, PartitionSpec

from conformance.contract.mesh import Mesh
from conformance.trace.jax_trace import Program

MESH = Mesh.parse("pipeline=2,tensor=2")
TABLE = np.array([[1, 0], [2, 1], [0, 2], [1, 1]], np.int32)  # [turns, ranks]: branch of each rank in each turn


def step_with(choose):
    """Each turn a branch: nothing, one sum over tensor, or two; `choose` (table row, rank, value) -> its number."""

    def on_device(x):
        rank = jax.lax.axis_index("pipeline")
        once = lambda x: jax.lax.psum(x, "tensor")  # noqa: E731
        branches = (lambda x: x, once, lambda x: once(once(x)))

        def turn(x, row):
            return jax.lax.switch(choose(row, rank, x), branches, x), None

        return jax.lax.scan(turn, x, jnp.asarray(TABLE))[0]

    mesh = AbstractMesh(tuple(MESH.shape), MESH.axes)
    mapped = jax.shard_map(on_device, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=False)

    def step(state, batch):
        return {"x": mapped(state["x"])}, {}

    return step


def sums(choose) -> int:
    program = Program(step_with(choose), {"x": jnp.ones(3, jnp.float32)}, {}, MESH)
    counts = Counter({each.axes: each.calls for each in program.traffic() or ()})
    return counts["tensor",]


def test_the_rank_with_most_counts_by_its_own_column():
    """Rank 0 has 1 + 2 + 0 + 1 sums, rank 1 0 + 1 + 2 + 1: neither has two in every turn."""
    assert sums(lambda row, rank, x: row[rank]) == 4


def test_another_table_is_another_count():
    """With two sums in every turn of rank 0, or none: the count follows from the program, not from a guess."""
    assert sums(lambda row, rank, x: jnp.where(rank == 0, 2, row[rank])) == 8
    assert sums(lambda row, rank, x: jnp.where(rank == 0, 0, 0 * row[rank])) == 0


def test_a_branch_that_hangs_on_a_value_counts_with_most():
    assert sums(lambda row, rank, x: (x[0] > 0).astype(jnp.int32)) == 8
