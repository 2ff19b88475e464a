"""Ring attention: queries stay, keys and values travel once round the sequence axis; forward and backward by hand.

B: rows  S: queries at hand  T: keys of one block  K: key heads  G: query heads of a key head  E: head size
Source: Liu, Zaharia and Abbeel, Ring Attention with Blockwise Transformers, section 3; the merge of partial results and
the backward from the log-sum-exp: Dao et al., FlashAttention, sections 3.1 and B.2.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from suites.sequence.step_budget import RINGS
from suites.sequence.torch_manual import sequence_parallel
from suites.sequence.torch_manual.context import ContextParallel
from suites.training.step_budget import Budgets
from suites.training.torch import layers
from suites.training.torch.state import Named


class LogSumExp(NamedTuple):
    """log(sum(exp(scores))) [B, K, G, S] as an unevaluated sum: adding it up would lose digits of large scores."""

    largest: Tensor  # of the scores; 0 where there are none
    rest: Tensor  # the log of the sum relative to it; -infinity where there are none


Partial = tuple[Tensor, LogSumExp]  # output [B, S, K, G, E] of some blocks, in the master dtype


class Tokens(NamedTuple):
    """Positions, attention mask and documents of the tokens of a block, sent round the ring with keys and values."""

    positions: Tensor  # [T]
    attention_mask: Tensor  # [B, T]
    documents: Tensor | None  # [B, T]


class Block(NamedTuple):
    """Keys and values on their way round the ring."""

    k: Tensor  # [B, T, K, E]
    v: Tensor
    tokens: Tokens


class Ring(ContextParallel):
    """Law: the merge of all blocks' partial results is the attention of the whole row, in whatever order they come."""

    sends: ClassVar[Budgets] = RINGS

    def attend(self, q_BSHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, batch: Named) -> Tensor:
        if self.context_size() == 1:
            return super().attend(q_BSHE, k_BTKE, v_BTKE, batch)  # type: ignore[misc]
        documents_BS = self.documents(batch)
        documents_BS = None if documents_BS is None else documents_BS.int()
        own = Tokens(self.block_positions().int(), batch["attention_mask"], documents_BS)
        q_BSKGE = q_BSHE.unflatten(2, (k_BTKE.shape[2], -1))
        out_BSKGE = RingAttention.apply(self, q_BSKGE, k_BTKE, v_BTKE, own)
        return out_BSKGE.flatten(2, 3).to(q_BSHE.dtype)

    def ring_forward(self, q_BSKGE: Tensor, block: Block) -> Partial:
        """Attention of the queries at hand to every block; the partial result of each block is merged as it arrives."""
        own = block.tokens
        merged = self.block_attention(q_BSKGE, block.k, block.v, self.visible_block(own, own))
        for _ in range(self.context_size() - 1):
            block = self.pass_on(block)
            visible_BST = self.visible_block(own, block.tokens)
            merged = self.merge(merged, self.block_attention(q_BSKGE, block.k, block.v, visible_BST))
        return merged

    def ring_backward(
        self, q_BSKGE: Tensor, block: Block, result: Partial, g_BSKGE: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, k and v. Those of keys and values travel with their block, and return with the last pass.

        Every block's weights are exp(scores - log-sum-exp of the whole row), so no block needs another.
        """
        own, (out_BSKGE, lse_BKGS) = block.tokens, result
        delta_BKGS = torch.einsum("bskge,bskge->bkgs", g_BSKGE, out_BSKGE)
        gq_BSKGE = q_BSKGE.new_zeros(q_BSKGE.shape, dtype=self.master)
        gk_BTKE, gv_BTKE = (x.new_zeros(x.shape, dtype=self.master) for x in (block.k, block.v))
        for step in range(self.context_size()):
            if step:
                block = self.pass_on(block)
            visible_BST = self.visible_block(own, block.tokens)
            new = self.block_gradients(q_BSKGE, block, visible_BST, lse_BKGS, delta_BKGS, g_BSKGE)
            gq_BSKGE = gq_BSKGE + new[0]
            gk_BTKE, gv_BTKE = self.pass_on((gk_BTKE + new[1], gv_BTKE + new[2]))
        return gq_BSKGE, gk_BTKE, gv_BTKE

    def visible_block(self, queries: Tokens, keys: Tokens) -> Tensor:
        """[B, S, T]: which keys of a block the queries see."""
        documents = None
        if queries.documents is not None and keys.documents is not None:
            documents = (queries.documents, keys.documents)
        positions = (queries.positions, keys.positions)
        return layers.visible(*positions, keys.attention_mask, documents, self.contract.model.causal)

    def block_attention(self, q_BSKGE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, visible_BST: Tensor) -> Partial:
        """Attention to one block by itself; a query that sees none of it gets zeros, and a log-sum-exp of -infinity."""
        scores_BKGST = self.scores(q_BSKGE, k_BTKE, visible_BST)
        lse_BKGS = self.block_log_sum_exp(scores_BKGST)
        weights_BKGST = self.weights(scores_BKGST, lse_BKGS)
        return torch.einsum("bkgst,btke->bskge", weights_BKGST, v_BTKE.to(self.master)), lse_BKGS

    def scores(self, q_BSKGE: Tensor, k_BTKE: Tensor, visible_BST: Tensor) -> Tensor:
        """q k' / sqrt(E) in the master dtype, -infinity where a key is not seen."""
        products = torch.einsum("bskge,btke->bkgst", q_BSKGE.to(self.master), k_BTKE.to(self.master))
        return (products / math.sqrt(k_BTKE.shape[3])).masked_fill(~visible_BST[:, None, None], -math.inf)

    def block_log_sum_exp(self, scores_BKGST: Tensor) -> LogSumExp:
        largest_BKGS = scores_BKGST.amax(-1)
        largest_BKGS = largest_BKGS.where(largest_BKGS.isfinite(), 0)
        return LogSumExp(largest_BKGS, (scores_BKGST - largest_BKGS[..., None]).exp().sum(-1).log())

    def weights(self, scores_BKGST: Tensor, lse_BKGS: LogSumExp) -> Tensor:
        """The softmax: exp(scores - log-sum-exp), exactly zero where a query sees no key."""
        rest_BKGS = lse_BKGS.rest.where(lse_BKGS.rest.isfinite(), 0)
        return (scores_BKGST - lse_BKGS.largest[..., None] - rest_BKGS[..., None]).exp()

    def merge(self, old: Partial, new: Partial) -> Partial:
        """Both outputs, weighted by their share of the softmax's denominator, relative to the larger of the two."""
        lse_BKGS = self.merge_log_sum_exp(old[1], new[1])
        return self.rescale(*old, lse_BKGS) + self.rescale(*new, lse_BKGS), lse_BKGS

    def merge_log_sum_exp(self, old: LogSumExp, new: LogSumExp) -> LogSumExp:
        """Relative to the larger of the two largest scores; a side without visible keys contributes nothing."""
        seen = [part.largest.where(part.rest.isfinite(), -math.inf) for part in (old, new)]
        largest_BKGS = torch.maximum(*seen)
        largest_BKGS = largest_BKGS.where(largest_BKGS.isfinite(), 0)
        parts = (part.largest - largest_BKGS + part.rest for part in (old, new))
        return LogSumExp(largest_BKGS, torch.logaddexp(*parts))

    def rescale(self, out_BSKGE: Tensor, part: LogSumExp, whole: LogSumExp) -> Tensor:
        """An output relative to its own denominator -> relative to that of all blocks."""
        rest_BKGS = part.rest - whole.rest.where(whole.rest.isfinite(), 0)
        share_BKGS = (part.largest - whole.largest + rest_BKGS).exp()
        return share_BKGS.movedim(3, 1)[..., None] * out_BSKGE

    def block_gradients(
        self,
        q_BSKGE: Tensor,
        block: Block,
        visible_BST: Tensor,
        lse_BKGS: LogSumExp,
        delta_BKGS: Tensor,
        g_BSKGE: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What one block adds to the gradients of q, and of its own k and v."""
        k_BTKE, v_BTKE, wide_q_BSKGE = (x.to(self.master) for x in (block.k, block.v, q_BSKGE))
        weights_BKGST = self.weights(self.scores(q_BSKGE, block.k, visible_BST), lse_BKGS)
        moved_BKGST = torch.einsum("bskge,btke->bkgst", g_BSKGE, v_BTKE) - delta_BKGS[..., None]
        g_scores_BKGST = weights_BKGST * moved_BKGST / math.sqrt(k_BTKE.shape[3])
        return (
            torch.einsum("bkgst,btke->bskge", g_scores_BKGST, k_BTKE),
            torch.einsum("bkgst,bskge->btke", g_scores_BKGST, wide_q_BSKGE),
            torch.einsum("bkgst,bskge->btke", weights_BKGST, g_BSKGE),
        )

    def compute_axes(self) -> tuple[str, ...]:
        """Without the sequence axis: the backward computes the scores again, which is more than its share."""
        return tuple(axis for axis in super().compute_axes() if axis != "sequence")


class RingAttention(torch.autograd.Function):
    """Saves q, k, v, the output and its log-sum-exp: nothing of the size of the scores."""

    @staticmethod
    def forward(ctx: Any, ring: Ring, q: Tensor, k: Tensor, v: Tensor, own: Tokens) -> Tensor:
        out, lse = ring.ring_forward(q, Block(k, v, own))
        ctx.ring = ring
        ctx.save_for_backward(q, k, v, *own, out, *lse)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        q, k, v, positions, attention_mask, documents, out, *lse = ctx.saved_tensors
        block = Block(k, v, Tokens(positions, attention_mask, documents))
        gradients = ctx.ring.ring_backward(q, block, (out, LogSumExp(*lse)), g)
        gq, gk, gv = (gradient.to(q.dtype) for gradient in gradients)
        return None, gq, gk, gv, None


class FeedForward(Ring, sequence_parallel.FeedForward):
    pass


class Attention(Ring, sequence_parallel.Attention):
    pass


class Layer(Ring, sequence_parallel.Layer):
    pass


class LanguageModel(Ring, sequence_parallel.LanguageModel):
    pass
