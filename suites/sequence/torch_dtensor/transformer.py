"""The models of tensor parallelism by DTensor, their residual stream sharded along its tokens.

What was replicated between blocks is Shard(1) now: DTensor gathers where a block is entered and reduce-scatters where
it is left; norms are of torch's style `SequenceParallel`. Tokens that do not divide are padded, as in the explicit
style, since a parallel style takes local blocks for equal ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.distributed import tensor as dtensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ParallelStyle
from torch.distributed.tensor.parallel import SequenceParallel as ShardedTokens

from conformance.contract.placements import Placements, Shard
from suites.sequence.dtensor_budget import BUDGETS
from suites.sequence.torch_manual.stream import StreamTokens
from suites.tensor.torch_dtensor import attention, feedforward, transformer
from suites.tensor.torch_dtensor.sharding import TensorByDTensor
from suites.training.state_layout import Positions
from suites.training.step_budget import Budgets
from suites.training.torch.state import Named


class SequenceParallel(StreamTokens, TensorByDTensor):
    """A mixin for the classes of tensor parallelism by DTensor."""

    sends: ClassVar[Budgets] = BUDGETS
    stream: ClassVar[dtensor.Placement] = dtensor.Shard(1)

    def norm_plan(self, path: str) -> Mapping[str, ParallelStyle]:
        return {path: ShardedTokens(use_local_output=True)}

    def quadratic(self, y: Tensor, batch: Named) -> tuple[Tensor, Tensor]:
        """Of the tokens of all ranks."""
        loss, weight = super().quadratic(y, batch)  # type: ignore[misc]
        if self.submesh is None:
            return loss, weight
        loss = DTensor.from_local(loss, self.submesh, [dtensor.Partial()], run_check=False).full_tensor()
        return loss, self.sum_over((self.tensor_axis,), weight)

    def require_supported(self) -> None:
        super().require_supported()
        self.require_whole_tokens()
        self.refuse_permuted()

    def compute_axes(self) -> tuple[str, ...]:
        return super().compute_axes() if len(self.token_order()) == self.row_length else ()

    # What DTensor communicates.


class FeedForward(SequenceParallel, feedforward.FeedForward):
    def feedforward_plan(self, path: str) -> Mapping[str, ParallelStyle]:
        adapter = {f"{path}.adapter_out": ShardedTokens(use_local_output=True)} if self.contract.model.adapter else {}
        return {**super().feedforward_plan(path), **adapter}


class Attention(SequenceParallel, attention.Attention):
    pass


class Layer(SequenceParallel, transformer.Layer):
    pass


class LanguageModel(SequenceParallel, transformer.LanguageModel):
    """Logits and losses are those of whole rows; all observations between blocks are of the stream."""

    def is_tokenwise(self, key: str) -> bool:
        return False

    def output_placements(self) -> dict[str, Placements]:
        block = self.block_placements()
        return {"outputs/logits": {**block, self.tensor_axis: Shard(2)}, "outputs/token_losses": block}

    def positions(self, name: str) -> Positions:
        return self.block_order() if name.startswith("outputs/") else super().positions(name)
