"""Sequence parallelism whose gathers are overlapped with the products that need them: asynchronous tensor parallelism.

Instead of gathering all tokens and then multiplying, every rank multiplies the tokens at hand while they are on their
way to the next rank of a ring; each product goes where its tokens stand. The gradient of the tokens is reduce-scattered
likewise. torch has fused operators for it (`torch.ops.symm_mem.fused_all_gather_matmul`), on CUDA alone.
Source: Wang et al., Overlap Communication with Dependent Computation via Decomposition in Large Deep Learning Models.

x: tokens of the stream  y: tokens of a block  w: [in, out]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from suites.sequence.step_budget import RING_COLUMNS, RING_PRODUCTS, ROWS
from suites.sequence.torch_manual import sequence_parallel
from suites.sequence.torch_manual.sequence_parallel import SequenceParallel
from suites.training.step_budget import Budgets
from suites.training.torch.state import Named


class RingMatmul(SequenceParallel):
    """Law: y = gather(x) w; the gradient of x is reduce-scatter(g w'), that of w is gather(x)' g."""

    sends: ClassVar[Budgets] = RING_PRODUCTS

    def enter_block(self, x: Tensor) -> Tensor:
        """No gather here: each product gathers its own tokens."""
        return x

    def entered_product(self, x: Tensor, w: Tensor) -> Tensor:
        return GatheredProduct.apply(x, w, self) if self.tensor_size() > 1 else x @ w

    def column_linear(self, x: Tensor, name: str, p: Named) -> Tensor:
        y = self.entered_product(x, p[f"{name}.weight"])
        return y + p[f"{name}.bias"] if f"{name}.bias" in p else y

    def ring_product(self, x: Tensor, w: Tensor) -> Tensor:
        """The product of all tokens, chunk by chunk as they come by."""
        chunks = {chunk: tokens @ w for chunk, tokens in self.passing(x)}
        return torch.cat([chunks[chunk] for chunk in range(self.tensor_size())], dim=self.token_dim)

    def ring_weight_gradient(self, x: Tensor, w: Tensor, g: Tensor) -> Tensor:
        """Tokens go round once more; what they add is summed in the master dtype."""
        g_w = torch.zeros(w.shape, dtype=self.master)
        for chunk, tokens in self.passing(x):
            part = self.take(g, chunk, tokens)
            g_w = g_w + torch.einsum("...i,...o->io", tokens.to(self.master), part.to(self.master))
        return g_w.to(w.dtype)

    def ring_token_gradient(self, x: Tensor, w: Tensor, g: Tensor) -> Tensor:
        """The sum for every rank's tokens goes round to its owner, and each rank adds its part on the way."""
        gradient = self.take(g, self.chunk_at_hand(1), x) @ w.T
        for step in range(1, self.tensor_size()):
            arriving = self.axis(self.tensor_axis).begin_permute(gradient)
            part = self.take(g, self.chunk_at_hand(step + 1), x) @ w.T
            gradient = arriving.wait() + part
        return gradient

    def passing(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(whose they are, tokens) as they come by; while they are used, they are on their way to the next rank."""
        last = self.tensor_size() - 1
        for step in range(last):
            arriving = self.axis(self.tensor_axis).begin_permute(x)
            yield self.chunk_at_hand(step), x
            x = arriving.wait()
        yield self.chunk_at_hand(last), x

    def chunk_at_hand(self, step: int) -> int:
        """Whose tokens have arrived after so many steps."""
        return (self.tensor_rank() - step) % self.tensor_size()

    def take(self, g: Tensor, chunk: int, like: Tensor) -> Tensor:
        """A chunk of as many tokens as `like` has."""
        width = like.shape[self.token_dim]
        return g.narrow(self.token_dim, chunk * width, width)


class GatheredProduct(torch.autograd.Function):
    """gather(x) w, in a ring."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, ring: RingMatmul) -> Tensor:
        ctx.ring = ring
        ctx.save_for_backward(x, w)
        return ring.ring_product(x, w)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        x, w = ctx.saved_tensors
        return ctx.ring.ring_token_gradient(x, w, g), ctx.ring.ring_weight_gradient(x, w, g), None


class ColumnLinear(RingMatmul, sequence_parallel.ColumnLinear):
    sends: ClassVar[Budgets] = {"linear": RING_COLUMNS}


class RowLinear(RingMatmul, sequence_parallel.RowLinear):
    """It gathers nothing."""

    sends: ClassVar[Budgets] = {"linear": ROWS}


class FeedForward(RingMatmul, sequence_parallel.FeedForward):
    pass


class Attention(RingMatmul, sequence_parallel.Attention):
    pass


class Layer(RingMatmul, sequence_parallel.Layer):
    pass


class LanguageModel(RingMatmul, sequence_parallel.LanguageModel):
    pass
