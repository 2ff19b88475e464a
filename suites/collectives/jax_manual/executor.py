"""The executor of schedules in JAX: one program for all devices, a `ppermute` for each permutation.

What a device sends and where it puts what arrives are rows of constant tables, which it looks up by its rank. A message
that is shorter than others of its permutation is filled up with zeros, which nobody puts anywhere.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from suites.collectives.schedule import Round, Schedule, permutations


def carried_out(schedule: Schedule, blocks: jax.Array, axis: str) -> jax.Array:
    """[blocks, elements] of this device -> the same when all rounds are done."""
    rank = jax.lax.axis_index(axis)
    for messages in schedule.rounds:
        parts = permutations(messages)
        arrivals = [_sent(part, schedule, blocks, rank, axis) for part in parts]
        for part, arrived in zip(parts, arrivals, strict=True):
            blocks = _received(part, schedule, blocks, arrived, rank)
    return blocks


def _sent(part: Round, schedule: Schedule, blocks: jax.Array, rank: jax.Array, axis: str) -> jax.Array:
    """What arrives here of one permutation, all of which leaves at once."""
    wanted = _table({message.source: message.blocks for message in part}, schedule)
    leaving = blocks.at[jnp.asarray(wanted)[rank]].get(mode="fill", fill_value=0)
    return jax.lax.ppermute(leaving, axis, [(message.source, message.destination) for message in part])


def _received(part: Round, schedule: Schedule, blocks: jax.Array, arrived: jax.Array, rank: jax.Array) -> jax.Array:
    places = blocks.at[jnp.asarray(_table({message.destination: message.blocks for message in part}, schedule))[rank]]
    return places.add(arrived, mode="drop") if part[0].adds else places.set(arrived, mode="drop")


def _table(blocks_of: dict[int, tuple[int, ...]], schedule: Schedule) -> np.ndarray:
    """[ranks, longest message]: block numbers by rank; one more than there are where there is nothing."""
    table = np.full((schedule.ranks, max(map(len, blocks_of.values()))), schedule.blocks)
    for rank, blocks in blocks_of.items():
        table[rank, : len(blocks)] = blocks
    return table
