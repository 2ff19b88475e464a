"""The feed-forward block, its hidden features sharded over the tensor axis.

B: rows  S: tokens  D: hidden  F: this rank's part of the hidden features of the block
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from suites.tensor.torch_manual.linear import LinearLayers
from suites.training.torch.losses import QuadraticLoss
from suites.training.torch.state import Named


class FeedForwardBlock(LinearLayers):
    """Up (and gate) column-parallel, the activation on this rank's features, down row-parallel."""

    def feedforward(self, x_BSD: Tensor, name: str, p: Named) -> Tensor:
        h_BSF = self.hidden_features(self.enter_block(x_BSD), name, p)
        y_BSD = self.row_linear(h_BSF, f"{name}.down", p)
        return y_BSD + self.adapted(h_BSF, name, p) if self.contract.model.adapter else y_BSD

    def adapted(self, h_BSF: Tensor, name: str, p: Named) -> Tensor:
        """The low-rank product of an adapter (Hu et al., LoRA): its first matrix is row-parallel, as `down` is."""
        return self.row_linear(h_BSF, f"{name}.adapter_in", p) @ p[f"{name}.adapter_out.weight"]

    def hidden_features(self, x_BSD: Tensor, name: str, p: Named) -> Tensor:
        if self.contract.model.activation == "gelu":
            return F.gelu(self.column_linear(x_BSD, f"{name}.up", p), approximate="tanh")
        gate_BSF, up_BSF = self.gate_and_up(x_BSD, name, p)
        return F.silu(gate_BSF) * up_BSF

    def gate_and_up(self, x_BSD: Tensor, name: str, p: Named) -> tuple[Tensor, ...]:
        """Where they are fused, a rank holds the gate columns and the up columns of the same features."""
        if self.contract.model.fused_gate_up:
            return self.column_linear(x_BSD, f"{name}.gate_up", p).chunk(2, dim=-1)
        return self.column_linear(x_BSD, f"{name}.gate", p), self.column_linear(x_BSD, f"{name}.up", p)


class FeedForward(QuadraticLoss, FeedForwardBlock):
    """The feed-forward block by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        y_BSD = self.feedforward(batch["inputs"], "feedforward", p)
        return *self.quadratic(y_BSD, batch), {"outputs/y": y_BSD}
