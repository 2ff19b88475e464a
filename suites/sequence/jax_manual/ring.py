"""Ring attention: queries stay, keys and values travel once round the sequence axis; forward and backward by hand.

B: rows  S: queries at hand  T: keys of one block  K: key heads  G: query heads of a key head  E: head size
Source: Liu, Zaharia and Abbeel, Ring Attention with Blockwise Transformers, section 3; the merge of partial results and
the backward from the log-sum-exp: Dao et al., FlashAttention, sections 3.1 and B.2.
"""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from suites.sequence.jax_manual import sequence_parallel
from suites.sequence.jax_manual.context import ContextParallel
from suites.sequence.step_budget import RINGS
from suites.training.jax import layers
from suites.training.jax.state import Named
from suites.training.step_budget import Budgets


class LogSumExp(NamedTuple):
    """log(sum(exp(scores))) [B, K, G, S] as an unevaluated sum: adding it up would lose digits of large scores."""

    largest: jax.Array  # of the scores; 0 where there are none
    rest: jax.Array  # the log of the sum relative to it; -infinity where there are none


Partial = tuple[jax.Array, LogSumExp]  # output [B, S, K, G, E] of some blocks, in the master dtype


class Tokens(NamedTuple):
    """Positions, attention mask and documents of the tokens of a block, sent round the ring with keys and values."""

    positions: jax.Array  # [T]
    attention_mask: jax.Array  # [B, T]
    documents: jax.Array | None  # [B, T]


class Block(NamedTuple):
    """Keys and values on their way round the ring."""

    k: jax.Array  # [B, T, K, E]
    v: jax.Array
    tokens: Tokens


class Ring(ContextParallel):
    """Law: the merge of all blocks' partial results is the attention of the whole row, in whatever order they come."""

    sends: ClassVar[Budgets] = RINGS

    def attend(self, q_BSHE: jax.Array, k_BTKE: jax.Array, v_BTKE: jax.Array, batch: Named) -> jax.Array:
        if self.context_size() == 1:
            return super().attend(q_BSHE, k_BTKE, v_BTKE, batch)  # type: ignore[misc]
        documents_BS = self.documents(batch)
        own = Tokens(
            self.block_positions(),
            batch["attention_mask"].astype(self.master),
            None if documents_BS is None else documents_BS.astype(jnp.int32),
        )
        q_BSKGE = q_BSHE.reshape(*q_BSHE.shape[:2], k_BTKE.shape[2], -1, q_BSHE.shape[3])
        return _attend(self, q_BSKGE, k_BTKE, v_BTKE, own).reshape(q_BSHE.shape).astype(q_BSHE.dtype)

    def ring_forward(self, q_BSKGE: jax.Array, block: Block) -> Partial:
        """Attention of the queries at hand to every block; the partial result of each block is merged as it arrives."""
        own = block.tokens
        merged = self.block_attention(q_BSKGE, block.k, block.v, self.visible_block(own, own))
        for _ in range(self.context_size() - 1):
            block = self.pass_on(block)
            visible_BST = self.visible_block(own, block.tokens)
            merged = self.merge(merged, self.block_attention(q_BSKGE, block.k, block.v, visible_BST))
        return merged

    def ring_backward(
        self, q_BSKGE: jax.Array, block: Block, result: Partial, g_BSKGE: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Gradients of q, k and v. Those of keys and values travel with their block, and return with the last pass.

        Every block's weights are exp(scores - log-sum-exp of the whole row), so no block needs another.
        """
        own, (out_BSKGE, lse_BKGS) = block.tokens, result
        delta_BKGS = jnp.einsum("bskge,bskge->bkgs", g_BSKGE, out_BSKGE)
        gq_BSKGE = jnp.zeros(q_BSKGE.shape, self.master)
        travelling = (jnp.zeros(block.k.shape, self.master), jnp.zeros(block.v.shape, self.master))
        for step in range(self.context_size()):
            if step:
                block = self.pass_on(block)
            visible_BST = self.visible_block(own, block.tokens)
            new = self.block_gradients(q_BSKGE, block, visible_BST, lse_BKGS, delta_BKGS, g_BSKGE)
            gq_BSKGE = gq_BSKGE + new[0]
            travelling = self.pass_on((travelling[0] + new[1], travelling[1] + new[2]))
        return gq_BSKGE, *travelling

    def visible_block(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """[B, S, T]: which keys of a block the queries see."""
        documents = None if queries.documents is None else (queries.documents, keys.documents)
        positions = (queries.positions, keys.positions)
        return layers.visible(*positions, keys.attention_mask, documents, self.contract.model.causal)  # type: ignore[arg-type]

    def block_attention(
        self, q_BSKGE: jax.Array, k_BTKE: jax.Array, v_BTKE: jax.Array, visible_BST: jax.Array
    ) -> Partial:
        """Attention to one block by itself; a query that sees none of it gets zeros, and a log-sum-exp of -infinity."""
        scores_BKGST = self.scores(q_BSKGE, k_BTKE, visible_BST)
        lse_BKGS = self.block_log_sum_exp(scores_BKGST)
        weights_BKGST = self.weights(scores_BKGST, lse_BKGS)
        return jnp.einsum("bkgst,btke->bskge", weights_BKGST, v_BTKE.astype(self.master)), lse_BKGS

    def scores(self, q_BSKGE: jax.Array, k_BTKE: jax.Array, visible_BST: jax.Array) -> jax.Array:
        """q k' / sqrt(E) in the master dtype, -infinity where a key is not seen."""
        products = jnp.einsum("bskge,btke->bkgst", q_BSKGE, k_BTKE, preferred_element_type=self.master)
        return jnp.where(visible_BST[:, None, None], products / math.sqrt(k_BTKE.shape[3]), -jnp.inf)

    def block_log_sum_exp(self, scores_BKGST: jax.Array) -> LogSumExp:
        largest_BKGS = jnp.max(scores_BKGST, axis=-1)
        largest_BKGS = jnp.where(jnp.isfinite(largest_BKGS), largest_BKGS, 0)
        return LogSumExp(largest_BKGS, jnp.log(jnp.sum(jnp.exp(scores_BKGST - largest_BKGS[..., None]), axis=-1)))

    def weights(self, scores_BKGST: jax.Array, lse_BKGS: LogSumExp) -> jax.Array:
        """The softmax: exp(scores - log-sum-exp), exactly zero where a query sees no key."""
        rest_BKGS = jnp.where(jnp.isfinite(lse_BKGS.rest), lse_BKGS.rest, 0)
        return jnp.exp(scores_BKGST - lse_BKGS.largest[..., None] - rest_BKGS[..., None])

    def merge(self, old: Partial, new: Partial) -> Partial:
        """Both outputs, weighted by their share of the softmax's denominator, relative to the larger of the two."""
        lse_BKGS = self.merge_log_sum_exp(old[1], new[1])
        return self.rescale(*old, lse_BKGS) + self.rescale(*new, lse_BKGS), lse_BKGS

    def merge_log_sum_exp(self, old: LogSumExp, new: LogSumExp) -> LogSumExp:
        """Relative to the larger of the two largest scores; a side without visible keys contributes nothing."""
        seen = [jnp.where(jnp.isfinite(part.rest), part.largest, -jnp.inf) for part in (old, new)]
        largest_BKGS = jnp.maximum(*seen)
        largest_BKGS = jnp.where(jnp.isfinite(largest_BKGS), largest_BKGS, 0)
        parts = (part.largest - largest_BKGS + part.rest for part in (old, new))
        return LogSumExp(largest_BKGS, jnp.logaddexp(*parts))

    def rescale(self, out_BSKGE: jax.Array, part: LogSumExp, whole: LogSumExp) -> jax.Array:
        """An output relative to its own denominator -> relative to that of all blocks."""
        rest_BKGS = part.rest - jnp.where(jnp.isfinite(whole.rest), whole.rest, 0)
        share_BKGS = jnp.exp(part.largest - whole.largest + rest_BKGS)
        return jnp.moveaxis(share_BKGS, 3, 1)[..., None] * out_BSKGE

    def block_gradients(
        self,
        q_BSKGE: jax.Array,
        block: Block,
        visible_BST: jax.Array,
        lse_BKGS: LogSumExp,
        delta_BKGS: jax.Array,
        g_BSKGE: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What one block adds to the gradients of q, and of its own k and v."""
        wide = (block.k.astype(self.master), block.v.astype(self.master), q_BSKGE.astype(self.master))
        k_BTKE, v_BTKE, wide_q_BSKGE = wide
        weights_BKGST = self.weights(self.scores(q_BSKGE, block.k, visible_BST), lse_BKGS)
        moved_BKGST = jnp.einsum("bskge,btke->bkgst", g_BSKGE, v_BTKE) - delta_BKGS[..., None]
        g_scores_BKGST = weights_BKGST * moved_BKGST / math.sqrt(k_BTKE.shape[3])
        return (
            jnp.einsum("bkgst,btke->bskge", g_scores_BKGST, k_BTKE),
            jnp.einsum("bkgst,bskge->btke", g_scores_BKGST, wide_q_BSKGE),
            jnp.einsum("bkgst,bskge->btke", weights_BKGST, g_BSKGE),
        )

    def compute_axes(self) -> tuple[str, ...]:
        """Without the sequence axis: the backward computes the scores again, which is more than its share."""
        return tuple(axis for axis in super().compute_axes() if axis != "sequence")


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(ring: Ring, q: jax.Array, k: jax.Array, v: jax.Array, own: Tokens) -> jax.Array:
    return ring.ring_forward(q, Block(k, v, own))[0]


def _attend_forward(ring: Ring, q: jax.Array, k: jax.Array, v: jax.Array, own: Tokens) -> tuple[jax.Array, tuple]:
    result = ring.ring_forward(q, Block(k, v, own))
    return result[0], (q, Block(k, v, own), result)


def _attend_backward(ring: Ring, saved: tuple, g: jax.Array) -> tuple:
    q, block, result = saved
    gradients = ring.ring_backward(q, block, result, g)
    return *(gradient.astype(q.dtype) for gradient in gradients), None


_attend.defvjp(_attend_forward, _attend_backward)


class FeedForward(Ring, sequence_parallel.FeedForward):
    pass


class Attention(Ring, sequence_parallel.Attention):
    pass


class Layer(Ring, sequence_parallel.Layer):
    pass


class LanguageModel(Ring, sequence_parallel.LanguageModel):
    pass
