"""Where the tokens of this rank stand: those of the residual stream between blocks, and those of the blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from conformance.contract.placements import Placements, Shard
from suites.sequence.token_layout import StreamLayout
from suites.training.state_layout import OBSERVED, Positions
from suites.training.torch.state import TorchTraining

TOKENWISE = ("inputs", "targets", "mask")  # what meets the residual stream of a model with a quadratic loss


class StreamTokens(StreamLayout, TorchTraining):
    """The stream is sharded over the tensor axis, whatever carries tokens into blocks and out of them."""

    def axis_rank(self, axis: str) -> int:
        """This rank's place along a mesh axis."""
        return self.axis(axis).rank

    def tensor_rank(self) -> int:
        return self.axis_rank(self.tensor_axis)

    def context_rank(self) -> int:
        return self.axis_rank("sequence") if self.context_size() > 1 else 0

    def block_positions(self) -> Tensor:
        return torch.tensor(self.token_order().reshape(self.context_size(), -1)[self.context_rank()])

    def stream_positions(self) -> Tensor:
        return self.block_positions().reshape(self.mesh.size(self.tensor_axis), -1)[self.tensor_rank()]

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
        return self.stream_order() if name.startswith(OBSERVED) else dict(super().positions(name))
