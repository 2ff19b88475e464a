"""Exchange by all-to-all of uneven splits: each token goes to the ranks of its experts, and comes back.

N: choices of a rank that are admitted  R: ranks of the expert axis  E: experts of this rank  D: hidden
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from suites.moe.step_budget import UNEVEN
from suites.moe.torch_manual.mixture import MixtureBlock
from suites.tensor.torch_manual import transformer
from suites.tensor.torch_manual.transformer import DecoderLayers
from suites.training.step_budget import Budgets
from suites.training.torch.collectives import MeshAxis
from suites.training.torch.losses import QuadraticLoss
from suites.training.torch.state import Named


class Exchange(torch.autograd.Function):
    """Rows to the ranks of an axis, so many to each; the gradient goes back the way it came."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: MeshAxis, sends: list[int], receives: list[int]) -> Tensor:
        ctx.axis, ctx.sends, ctx.receives = axis, sends, receives
        return axis.exchange(x, sends, receives)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return ctx.axis.exchange(g, ctx.receives, ctx.sends), None, None, None


class UnevenExchange(MixtureBlock):
    """Rows sorted by expert; the ranks exchange the counts of rows first."""

    sends: ClassVar[Budgets] = UNEVEN

    def exchanged(self, read_BSKD: Tensor, admitted_BSK: Tensor, name: str, p: Named) -> Tensor:
        experts = admitted_BSK.reshape(-1)
        order_N = experts.argsort(stable=True)[(experts < 0).sum() :]
        counts_RE = self.counts(experts)
        here_RE = self.axis(self.expert_axis).all_to_all(counts_RE, 0, 0)
        sends, receives = counts_RE.sum(1).tolist(), here_RE.sum(1).tolist()
        arrived = self.exchange(read_BSKD.reshape(-1, read_BSKD.shape[-1])[order_N], sends, receives)
        returned_ND = self.exchange(self.grouped(arrived, here_RE, name, p), receives, sends)
        return self.unsorted(returned_ND, order_N, len(experts)).reshape(read_BSKD.shape)

    def counts(self, experts: Tensor) -> Tensor:
        """Choices of this rank by expert: [rank, expert there]."""
        stored = self.expert_size() * self.experts_here
        return torch.bincount(experts[experts >= 0], minlength=stored).reshape(self.expert_size(), -1)

    def exchange(self, x: Tensor, sends: list[int], receives: list[int]) -> Tensor:
        return Exchange.apply(x, self.axis(self.expert_axis), sends, receives) if self.expert_size() > 1 else x

    def grouped(self, arrived: Tensor, here_RE: Tensor, name: str, p: Named) -> Tensor:
        """The outputs of this rank's experts for the received rows, in their order: by rank, then by expert."""
        pieces = arrived.split(here_RE.reshape(-1).tolist())
        said: dict[int, Tensor] = {}
        for e in range(self.experts_here):
            own = pieces[e :: self.experts_here]  # from every rank
            parts = self.expert_block(torch.cat(own), e, name, p).split([len(rows) for rows in own])
            said |= {rank * self.experts_here + e: part for rank, part in enumerate(parts)}
        return torch.cat([said[number] for number in range(len(pieces))])

    def unsorted(self, rows_ND: Tensor, order_N: Tensor, number: int) -> Tensor:
        """Rows at their original index; zeros elsewhere."""
        return rows_ND.new_zeros(number, rows_ND.shape[-1]).index_copy(0, order_N, rows_ND)

    def expert_block(self, x: Tensor, expert: int, name: str, p: Named) -> Tensor:
        """One expert on all rows that were sent to it, possibly none."""
        own = {
            f"{name}.{key.removeprefix(f'{name}.experts.')}": value[expert]
            for key, value in p.items()
            if key.startswith(f"{name}.experts.")
        }
        x = self.copy_to_tensor(x)
        if self.contract.model.activation == "gelu":
            hidden = F.gelu(self.column_linear(x, f"{name}.up", own), approximate="tanh")
        else:
            hidden = F.silu(self.column_linear(x, f"{name}.gate", own)) * self.column_linear(x, f"{name}.up", own)
        y = self.reduce_from_tensor(hidden @ own[f"{name}.down.weight"])
        bias = f"{name}.down.bias"
        return y + own[bias] if bias in own else y


class Alone(QuadraticLoss, DecoderLayers):
    """The forward pass of one mixture by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        observed: Named = {}
        y_BSD = self.fed(batch["inputs"], batch, "moe", p, observed)
        return *self.quadratic(y_BSD, batch), observed | {"outputs/y": y_BSD}


class Mixture(UnevenExchange, Alone):
    """One mixture by itself."""


class Layer(UnevenExchange, transformer.Layer):
    """One decoder layer."""


class LanguageModel(UnevenExchange, transformer.LanguageModel):
    """A decoder language model with mixtures in some of its layers."""
