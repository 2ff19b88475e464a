"""Exchange by all-to-all of uneven splits: each token goes to the ranks of its experts, and comes back.

N: choices of a rank that are admitted  R: ranks of the expert axis  E: experts of this rank  D: hidden
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from conformance.contract.implementation import Phase
from suites.moe.torch_manual.mixture import MixtureBlock
from suites.tensor.torch_manual import transformer
from suites.tensor.torch_manual.transformer import DecoderLayers
from suites.training.torch.collectives import MeshAxis
from suites.training.torch.losses import QuadraticLoss
from suites.training.torch.state import Named
from suites.training.traffic import Transfer


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

    def transfers(self) -> Iterator[Transfer]:
        """Counts of rows, then the rows: at most all choices of a rank leave it, and those of all ranks reach one.

        Gradients go the same ways. Source: Lepikhin et al., GShard, section 3.2.
        """
        yield from super().transfers()
        counts, again = self.expert_size() * self.experts_here, int(self.recomputes)
        for phase in self.mixture_phases:
            yield self.in_mixtures("all_to_all", self.expert_axis, phase, counts, torch.int64)
        arriving = self.expert_size() * self.routed_tokens * self.contract.model.top_k * self.contract.model.hidden
        passes: tuple[tuple[Phase, int], ...] = (("forward", 1), ("backward", 1 + again))
        for phase, times in passes:
            rows = self.in_mixtures("all_to_all", self.expert_axis, phase, arriving, self.compute, 2 * times)
            of_each = -(-arriving // self.experts_here)
            sums = self.in_mixtures(
                "all_reduce", self.tensor_axis, phase, of_each, self.compute, times * self.experts_here
            )
            yield from (replace(transfer, at_most=True) for transfer in (rows, sums))

    @property
    def routed_tokens(self) -> int:
        """Tokens of one slice that a rank routes."""
        return self.slice_shape[0] * self.routed_length


class Alone(QuadraticLoss, DecoderLayers):
    """The forward pass of one mixture by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        observed: Named = {}
        y_BSD = self.fed(batch["inputs"], batch, "moe", p, observed)
        return *self.quadratic(y_BSD, batch), observed | {"outputs/y": y_BSD}

    def transfers(self) -> Iterator[Transfer]:
        yield from super().transfers()
        if self.contract.model.shared_ffn:
            yield self.hidden_transfer("forward")
            yield from self.entry_sums(1)


class Mixture(UnevenExchange, Alone):
    """One mixture by itself."""


class Layer(UnevenExchange, transformer.Layer):
    """One decoder layer."""


class LanguageModel(UnevenExchange, transformer.LanguageModel):
    """A decoder language model with mixtures in some of its layers."""
