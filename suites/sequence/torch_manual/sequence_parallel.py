"""Tensor parallelism whose residual stream is sharded along its tokens.

Between blocks every rank of the tensor axis holds its part of the tokens; norms, dropout and residual sums run there.
A block is entered by a gather and left by a reduce-scatter, which together move as much as one all-reduce. What is
replicated over the axis meets other tokens on each rank: its gradient is summed over the axis.
Source: Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, section 4.2.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from conformance.contract.implementation import Phase
from conformance.contract.placements import Placements, Shard
from suites.sequence.torch_manual.collectives import GatherAlong, ScatterAlong
from suites.sequence.torch_manual.stream import StreamTokens
from suites.tensor.torch_manual import attention, feedforward, linear, transformer
from suites.tensor.torch_manual.collectives import TensorParallel
from suites.training.state_layout import OBSERVED, Positions
from suites.training.torch.state import Named
from suites.training.traffic import Transfer


class SequenceParallel(StreamTokens, TensorParallel):
    """Enter by a gather along tokens, leave by a reduce-scatter. A mixin for the classes of tensor parallelism."""

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

    def is_partial(self, name: str) -> bool:
        """Replicated parameters are applied to other tokens or heads on each rank, so their gradients are partial."""
        return self.tensor_size() > 1 and self.tensor_axis not in self.placements(name)

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

    def entered(self) -> int:
        """How many blocks the forward pass enters."""
        return 1

    def entered_again(self) -> int:
        """How many of them it enters once more when layers are recomputed."""
        return 0

    def transfers(self) -> Iterator[Transfer]:
        """Sums of activations become reduce-scatters and gathers; statistics, of one number per token, stay sums."""
        for transfer in super().transfers():
            of_activations = transfer.kind == "all_reduce" and transfer.elements > self.slice_tokens
            if transfer.phase == "update" or not of_activations:
                yield transfer
            else:
                yield replace(transfer, kind="reduce_scatter")
                if transfer.phase == "forward":
                    yield replace(transfer, kind="all_gather", phase="backward")
        entered: dict[Phase, int] = {
            "forward": self.entered(),
            "backward": self.entered_again() if self.recomputes else 0,
        }
        for phase, calls in entered.items():
            elements = self.slice_tokens * self.contract.model.hidden
            yield self.tensor_transfer("all_gather", phase, elements, self.compute, calls=calls)


class QuadraticSums(SequenceParallel):
    """Loss and weight of the tokens of the stream, summed over the axis."""

    def transfers(self) -> Iterator[Transfer]:
        yield from super().transfers()
        yield self.tensor_transfer("all_reduce", "forward", 1, self.master, calls=2)


class ColumnLinear(SequenceParallel, linear.ColumnLinear):
    """Tokens are gathered, features are sharded, and features are gathered: what comes out is whole everywhere."""

    def is_tokenwise(self, key: str) -> bool:
        return key == "inputs"

    def output_placements(self) -> dict[str, Placements]:
        return {"outputs/y": self.block_placements()}

    def positions(self, name: str) -> Positions:
        return {} if name.startswith(OBSERVED) else super().positions(name)

    def quadratic(self, y: Tensor, batch: Named) -> tuple[Tensor, Tensor]:
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
