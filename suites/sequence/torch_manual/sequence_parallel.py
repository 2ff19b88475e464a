"""Tensor parallelism whose residual stream is sharded along its tokens.

Between blocks every rank of the tensor axis holds its part of the tokens; norms, dropout and residual sums run there.
A block is entered by a gather and left by a reduce-scatter, which together move as much as one all-reduce. What is
replicated over the axis meets other tokens on each rank: its gradient is summed over the axis.
Source: Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, section 4.2.2.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from conformance.contract.placements import Placements, Shard
from suites.sequence.step_budget import BUDGETS, COLUMNS, ROWS
from suites.sequence.torch_manual.collectives import GatherAlong, ScatterAlong
from suites.sequence.torch_manual.stream import StreamTokens
from suites.tensor.torch_manual import attention, feedforward, linear, transformer
from suites.tensor.torch_manual.collectives import TensorParallel
from suites.training.state_layout import OBSERVED, Positions
from suites.training.step_budget import Budgets
from suites.training.torch.state import Named


class SequenceParallel(StreamTokens, TensorParallel):
    """Enter by a gather along tokens, leave by a reduce-scatter. A mixin for the classes of tensor parallelism."""

    sends: ClassVar[Budgets] = BUDGETS

    def enter_block(self, x: Tensor) -> Tensor:
        return self.gather_tokens(x)

    def leave_block(self, y: Tensor) -> Tensor:
        return self.scatter_tokens(y)

    def gather_tokens(self, x: Tensor) -> Tensor:
        """Stream -> block; the gradient is reduce-scattered."""
        return GatherAlong.apply(x, self.axis(self.tensor_axis), self.token_dim) if self.tensor_size() > 1 else x

    def scatter_tokens(self, y: Tensor) -> Tensor:
        """Partial sums of a block -> stream; the gradient is gathered."""
        return ScatterAlong.apply(y, self.axis(self.tensor_axis), self.token_dim) if self.tensor_size() > 1 else y

    def require_supported(self) -> None:
        super().require_supported()
        self.require_whole_tokens()

    # Sums and declarations.

    def quadratic(self, y: Tensor, batch: Named) -> tuple[Tensor, Tensor]:
        """Of the tokens of all ranks."""
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

    def quadratic(self, y: Tensor, batch: Named) -> tuple[Tensor, Tensor]:
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
