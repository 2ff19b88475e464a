"""Tensor parallelism whose residual stream is sharded along its tokens.

Between blocks every device of the tensor axis holds its part of the tokens; norms, dropout and residual sums run there.
A block is entered by a gather and left by a reduce-scatter, which together move as much as one all-reduce. What is
replicated over the axis meets other tokens on each device: its gradient is summed over the axis.
Source: Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, section 4.2.2.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from conformance.contract.placements import Placements, Shard
from suites.sequence.jax_manual.collectives import gather_along, scatter_along
from suites.sequence.step_budget import BUDGETS, COLUMNS, ROWS
from suites.sequence.token_layout import StreamLayout
from suites.tensor.jax_manual import attention, feedforward, linear, transformer
from suites.tensor.jax_manual.collectives import TensorParallel
from suites.training.jax.state import Named
from suites.training.state_layout import OBSERVED, Positions
from suites.training.step_budget import Budgets

TOKENWISE = ("inputs", "targets", "mask")  # what meets the residual stream of a model with a quadratic loss


class SequenceParallel(StreamLayout, TensorParallel):
    """Enter by a gather along tokens, leave by a reduce-scatter. A mixin for the classes of tensor parallelism."""

    sends: ClassVar[Budgets] = BUDGETS

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

    def compute_axes(self) -> tuple[str, ...]:
        even = self.token_dim == 0 or len(self.token_order()) == self.row_length
        return super().compute_axes() if even else ()


class ColumnLinear(SequenceParallel, linear.ColumnLinear):
    """Tokens are gathered, features are sharded, and features are gathered: what comes out is whole everywhere."""

    sends: ClassVar[Budgets] = {"linear": COLUMNS}

    def is_tokenwise(self, key: str) -> bool:
        return key == "inputs"

    def output_placements(self) -> dict[str, Placements]:
        return {"outputs/y": self.block_placements()}

    def positions(self, name: str) -> Positions:
        return {} if name.startswith(OBSERVED) else super().positions(name)

    def quadratic(self, y: jax.Array, batch: Named) -> tuple[jax.Array, jax.Array]:
        return linear.ColumnLinear.quadratic(self, y, batch)


class RowLinear(SequenceParallel, linear.RowLinear):
    """Features are split here; partial sums are reduce-scattered along tokens."""

    sends: ClassVar[Budgets] = {"linear": ROWS}

    def is_tokenwise(self, key: str) -> bool:
        return key in ("targets", "mask")


class FeedForward(SequenceParallel, feedforward.FeedForward):
    pass


class Attention(SequenceParallel, attention.Attention):
    pass


class Layer(SequenceParallel, transformer.Layer):
    pass


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
