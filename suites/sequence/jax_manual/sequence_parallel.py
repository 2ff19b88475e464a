"""Tensor parallelism whose residual stream is sharded along its tokens.

Between blocks every device of the tensor axis holds its part of the tokens; norms, dropout and residual sums run there.
A block is entered by a gather and left by a reduce-scatter, which together move as much as one all-reduce. What is
replicated over the axis meets other tokens on each device: its gradient is summed over the axis.
Source: Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, section 4.2.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import jax
import jax.numpy as jnp

from conformance.contract.placements import Placements, Shard
from suites.sequence.jax_manual.collectives import gather_along, scatter_along
from suites.sequence.token_layout import TokenLayout
from suites.tensor.jax_manual import attention, feedforward, linear, transformer
from suites.tensor.jax_manual.collectives import TensorParallel
from suites.training.jax.state import Named
from suites.training.state_layout import OBSERVED, Positions
from suites.training.traffic import Transfer

TOKENWISE = ("inputs", "targets", "mask")  # what meets the residual stream of a model with a quadratic loss


class SequenceParallel(TokenLayout, TensorParallel):
    """Enter by a gather along tokens, leave by a reduce-scatter. A mixin for the classes of tensor parallelism."""

    def enter_block(self, x: jax.Array) -> jax.Array:
        return self.gather_tokens(x)

    def leave_block(self, y: jax.Array) -> jax.Array:
        return self.scatter_tokens(y)

    def gather_tokens(self, x: jax.Array) -> jax.Array:
        """Stream -> block; the gradient is reduce-scattered."""
        return gather_along(x, self.tensor_axis, self.token_dim) if self.tensor_size() > 1 else x

    def scatter_tokens(self, y: jax.Array) -> jax.Array:
        """Partial sums of a block -> stream; the gradient is gathered."""
        return scatter_along(y, self.tensor_axis, self.token_dim) if self.tensor_size() > 1 else y

    def is_partial(self, name: str) -> bool:
        """Replicated parameters are applied to other tokens or heads on each device, so their gradients are partial."""
        return self.tensor_size() > 1 and self.tensor_axis not in self.placements(name)

    # Where tokens stand.

    def context_rank(self) -> jax.Array | int:
        return self.axis_rank("sequence") if self.context_size() > 1 else 0

    def block_positions(self) -> jax.Array:
        return jnp.asarray(self.token_order().reshape(self.context_size(), -1), "int32")[self.context_rank()]

    def stream_positions(self) -> jax.Array:
        return self.block_positions().reshape(self.tensor_size(), -1)[self.tensor_rank()]

    def row_placements(self) -> Placements:
        return self.stream_placements()

    def batch_placements(self, key: str) -> Placements:
        if key == "seeds":
            return dict.fromkeys(self.row_axes, Shard(0))
        return self.stream_placements() if self.is_tokenwise(key) else self.block_placements()

    def batch_positions(self, key: str) -> Positions:
        if key == "seeds":
            return {}
        return self.stream_order() if self.is_tokenwise(key) else self.block_order()

    def is_tokenwise(self, key: str) -> bool:
        """Whether a key of the batch meets the residual stream, not the blocks."""
        return key in TOKENWISE

    def output_placements(self) -> dict[str, Placements]:
        return {}

    def positions(self, name: str) -> Positions:
        """Observations are in the order of the stream, unless they are sharded otherwise."""
        return self.stream_order() if name.startswith(OBSERVED) else super().positions(name)

    def require_supported(self) -> None:
        super().require_supported()
        self.require_whole_tokens()

    # Sums and declarations.

    def quadratic(self, y: jax.Array, batch: Named) -> tuple[jax.Array, jax.Array]:
        """Of the tokens of all devices."""
        loss, weight = super().quadratic(y, batch)  # type: ignore[misc]
        return self.reduce_from_tensor(loss), self.sum_over_tensor(weight)

    @cached_property
    def tokens_per_slice(self) -> int:
        """Tokens of a slice that blocks of one device compute with, padding included."""
        rows = self.contract.batch_shapes["mask"][0] // self.size(self.row_axes)
        block = 1 if self.token_dim == 0 else self.chunks() * self.chunk_width()
        return rows // self.contract.recipe.accumulation * block

    def compute_axes(self) -> tuple[str, ...]:
        even = self.token_dim == 0 or len(self.token_order()) == self.row_length
        return super().compute_axes() if even else ()

    def entered(self) -> int:
        """How many blocks the forward pass enters."""
        return 1

    def entered_again(self) -> int:
        """How many of them it enters once more where layers are recomputed."""
        return 0

    def transfers(self) -> Iterator[Transfer]:
        """Sums of activations become reduce-scatters and gathers; statistics, of one number per token, stay sums."""
        for transfer in super().transfers():
            of_activations = transfer.kind == "all_reduce" and transfer.elements > self.tokens_per_slice
            if transfer.phase == "update" or not of_activations:
                yield transfer
            else:
                yield replace(transfer, kind="reduce_scatter")
                if transfer.phase == "forward":
                    yield replace(transfer, kind="all_gather", phase="backward")
        yield self.each_token("all_gather", "forward", self.contract.model.hidden, self.entered())
        again = self.entered_again() if self.recomputes else 0
        yield self.each_token("all_gather", "backward", self.contract.model.hidden, again)


class QuadraticSums(SequenceParallel):
    """Loss and weight of the tokens of the stream, summed over the axis."""

    def transfers(self) -> Iterator[Transfer]:
        yield from super().transfers()
        calls = 2 * self.contract.recipe.accumulation
        yield replace(self.update_sum((self.tensor_axis,), 1, calls), phase="forward")


class ColumnLinear(SequenceParallel, linear.ColumnLinear):
    """Tokens are gathered, features are sharded, and features are gathered: what comes out is whole everywhere."""

    def is_tokenwise(self, key: str) -> bool:
        return key == "inputs"

    def output_placements(self) -> dict[str, Placements]:
        return {"outputs/y": self.block_placements()}

    def positions(self, name: str) -> Positions:
        return {} if name.startswith(OBSERVED) else super().positions(name)

    def quadratic(self, y: jax.Array, batch: Named) -> tuple[jax.Array, jax.Array]:
        return linear.ColumnLinear.quadratic(self, y, batch)


class RowLinear(QuadraticSums, linear.RowLinear):
    """Features are split here; partial sums are reduce-scattered along tokens."""

    def is_tokenwise(self, key: str) -> bool:
        return key in ("targets", "mask")

    def entered(self) -> int:
        return 0


class FeedForward(QuadraticSums, feedforward.FeedForward):
    pass


class Attention(QuadraticSums, attention.Attention):
    pass


class Layer(QuadraticSums, transformer.Layer):
    def entered(self) -> int:
        return 2

    def entered_again(self) -> int:
        return 2


class LanguageModel(SequenceParallel, transformer.LanguageModel):
    """The embedding leaves by a reduce-scatter; the final norm runs in the stream; the head is entered by a gather."""

    def is_tokenwise(self, key: str) -> bool:
        return False

    def output_placements(self) -> dict[str, Placements]:
        block = self.block_placements()
        return {"outputs/logits": {**block, self.tensor_axis: Shard(2)}, "outputs/token_losses": block}

    def positions(self, name: str) -> Positions:
        if not name.startswith("outputs/"):
            return super().positions(name)
        vocabulary = transformer.LanguageModel.positions(self, name) if name == "outputs/logits" else {}
        return {**self.block_order(), **{dim: stored for dim, stored in vocabulary.items() if dim == 2}}

    def entered(self) -> int:
        return self.contract.model.layers + self.dense_blocks + 1

    def entered_again(self) -> int:
        return self.contract.model.layers + self.dense_blocks
