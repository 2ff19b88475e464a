"""Rows sharded over the sequence axis: what a token needs from other shards besides attention.

B: rows  S: tokens at hand  T: tokens of all shards
Gradients and losses are summed over the sequence axis as over the data axis.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from suites.sequence.jax_manual.sequence_parallel import SequenceParallel
from suites.sequence.token_layout import CONTEXT
from suites.training.jax.state import Named


class ContextParallel(SequenceParallel):
    """A device holds some tokens of its rows: one run of them, unless a subclass says otherwise."""

    token_axes = CONTEXT

    def pass_on(self, x: Any) -> Any:
        """Every device hands what it holds to the next one, the last to the first."""
        return self.pass_by(x, 1)

    def pass_by(self, x: Any, places: int) -> Any:
        """Every device hands what it holds to the one so many places further, round the ring."""
        size = self.context_size()
        pairs = [(rank, (rank + places) % size) for rank in range(size)]
        return jax.tree.map(lambda part: jax.lax.ppermute(part, "sequence", pairs), x)

    def gather_row(self, x_BS: jax.Array) -> jax.Array:
        """[B, T]: the tokens of all shards, in the order in which they are stored."""
        return jax.lax.all_gather(x_BS, "sequence", axis=1, tiled=True) if self.context_size() > 1 else x_BS

    def documents(self, batch: Named) -> jax.Array | None:
        """A document may begin in one shard and go on in the next: its number counts the starts in all before it."""
        if not self.contract.model.documents or self.context_size() == 1:
            return super().documents(batch)  # type: ignore[misc]
        return self.count_before(batch["document_starts"].astype(self.master))

    def count_before(self, document_starts_BS: jax.Array) -> jax.Array:
        """[B, S]: starts up to each token, counted over the whole row."""
        stored_T = self.token_order()
        counted_BT = jnp.cumsum(self.gather_row(document_starts_BS)[:, _places(stored_T)], axis=1)
        return counted_BT[:, jnp.maximum(self.block_positions(), 0)]

    def targets(self, batch: Named) -> jax.Array:
        """The next token of a row may be the first of another shard."""
        if not self.contract.model.shift_labels:
            return super().targets(batch)  # type: ignore[misc]
        tokens_BCS = batch["tokens"].reshape(len(batch["tokens"]), self.chunks(), -1)
        following_BC = self.first_of_next(tokens_BCS[:, :, 0])
        shifted_BCS = jnp.concatenate([tokens_BCS[:, :, 1:], following_BC[:, :, None]], axis=2)
        return shifted_BCS.reshape(batch["tokens"].shape)

    def first_of_next(self, first_BC: jax.Array) -> jax.Array:
        """First token of every chunk at hand -> first token of the chunk that follows it in the row."""
        return self.pass_by(first_BC, -1) if self.context_size() > 1 else jnp.roll(first_BC, -1, axis=1)

    # Biases. The gradient of a key bias is zero as a sum over a whole row, and large as one over the tokens at hand:
    # rounded to 16 bits on each device, the parts would no longer cancel. So biases are added in the master dtype.

    def to_compute(self, parameters: Named) -> Named:
        biases = {name: p for name, p in parameters.items() if name.endswith(".bias")}
        return super().to_compute(parameters) | biases

    def column_linear(self, x: jax.Array, name: str, p: Named) -> jax.Array:
        return super().column_linear(x, name, p).astype(x.dtype)  # type: ignore[misc]

    def row_linear(self, x: jax.Array, name: str, p: Named) -> jax.Array:
        return super().row_linear(x, name, p).astype(x.dtype)  # type: ignore[misc]

    # Declarations.


def _places(stored_T: np.ndarray) -> np.ndarray:
    """Canonical index -> where it is stored."""
    return np.argsort(np.where(stored_T < 0, len(stored_T), stored_T), kind="stable")
