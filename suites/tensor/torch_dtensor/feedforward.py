"""The feed-forward block, its hidden features sharded by DTensor.

B: rows  S: tokens  D: hidden  F: this rank's part of the hidden features of the block
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, PrepareModuleInput, RowwiseParallel

from reference.architecture import Architecture
from suites.tensor.torch_dtensor.sharding import Quadratic, TensorByDTensor
from suites.training.torch.state import Named


class FeedForwardModule(nn.Module):
    def __init__(self, model: Architecture) -> None:
        super().__init__()
        self.model = model
        if model.activation == "swiglu" and model.fused_gate_up:
            self.gate_up = nn.Linear(model.hidden, 2 * model.ffn, bias=model.bias)
        else:
            self.up = nn.Linear(model.hidden, model.ffn, bias=model.bias)
            if model.activation == "swiglu":
                self.gate = nn.Linear(model.hidden, model.ffn, bias=model.bias)
        self.down = nn.Linear(model.ffn, model.hidden, bias=model.bias)
        if model.adapter:
            self.adapter_in = nn.Linear(model.ffn, model.adapter, bias=False)
            self.adapter_out = nn.Linear(model.adapter, model.hidden, bias=False)

    def forward(self, x_BSD: Tensor) -> Tensor:
        h_BSF = self.hidden_features(x_BSD)
        return self.down(h_BSF) + self.adapter_out(self.adapter_in(h_BSF)) if self.model.adapter else self.down(h_BSF)

    def hidden_features(self, x_BSD: Tensor) -> Tensor:
        if self.model.activation == "gelu":
            return F.gelu(self.up(x_BSD), approximate="tanh")
        fused = self.model.fused_gate_up
        gate_BSF, up_BSF = self.gate_up(x_BSD).chunk(2, dim=-1) if fused else (self.gate(x_BSD), self.up(x_BSD))
        return F.silu(gate_BSF) * up_BSF


class ShardedFeedForward(TensorByDTensor):
    """Up (and gate) by columns, down by rows."""

    def feedforward_plan(self, path: str) -> Mapping[str, ParallelStyle]:
        """The input becomes a DTensor once, so that its gradient is summed once."""
        model = self.contract.model
        columns = ["up"] if model.activation == "gelu" else ["gate_up"] if model.fused_gate_up else ["gate", "up"]
        rows = ["down", "adapter_in"] if model.adapter else ["down"]
        enter = PrepareModuleInput(input_layouts=self.stream, desired_input_layouts=Replicate())
        parts: dict[str, ParallelStyle] = {f"{path}.{name}": ColwiseParallel() for name in columns}
        return {path: enter, **parts} | {f"{path}.{name}": RowwiseParallel(output_layouts=self.stream) for name in rows}


class OneFeedForward(nn.Module):
    def __init__(self, model: Architecture) -> None:
        super().__init__()
        self.feedforward = FeedForwardModule(model)

    def forward(self, batch: Named) -> Named:
        return {"outputs/y": self.feedforward(batch["inputs"])}


class FeedForward(Quadratic, ShardedFeedForward):
    """The feed-forward block by itself."""

    def build(self) -> nn.Module:
        return self.sharded(OneFeedForward(self.contract.model))

    def plan(self) -> Mapping[str, ParallelStyle]:
        return self.feedforward_plan("feedforward")
