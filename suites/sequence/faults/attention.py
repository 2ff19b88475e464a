"""Attention across shards: the ring forwards and backwards, the merge of partial results, heads of Ulysses."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class OwnKeysInBackward(Conforming):
    """Keys and values travel in the backward pass too, and the kernel reads those that were saved at the start."""

    def ring_backward(self, q, block, *rest):
        self.own = block
        return super().ring_backward(q, block, *rest)

    def block_gradients(self, q, block, *rest):
        return super().block_gradients(q, block._replace(k=self.own.k, v=self.own.v), *rest)


class GradientsStayBehind(Conforming):
    """Keys and values go round the ring, but their gradients stay on each device instead of travelling with them."""

    def ring_backward(self, q, block, *rest):
        self.travelling = 0
        return super().ring_backward(q, block, *rest)

    def pass_on(self, x):
        return x if isinstance(x, tuple) and len(x) == 2 else super().pass_on(x)


class OutputsAveraged(Conforming):
    """Partial outputs are averaged, whatever their share of the denominator."""

    def merge(self, old, new):
        return (old[0] + new[0]) / 2, super().merge(old, new)[1]


class OldOutputNotRescaled(Conforming):
    """Earlier partial outputs are not rescaled when a larger score arrives."""

    def merge(self, old, new):
        merged, lse = super().merge(old, new)
        return merged - self.rescale(*old, lse) + old[0], lse


class MaskOfLocalIndexes(Conforming):
    """The causal mask counts queries and keys from the first of their own shards, in every step of the ring."""

    def visible_block(self, queries, keys):
        local = (tokens._replace(positions=tokens.positions - tokens.positions[0]) for tokens in (queries, keys))
        return super().visible_block(*local)


class FirstOfNextShardSeen(Conforming):
    """The last query of a shard sees one key too many: the first of the next."""

    def visible_block(self, queries, keys):
        seen = super().visible_block(queries, keys)
        follows = keys.positions[None, :] == queries.positions[:, None] + 1
        edge = (keys.positions == keys.positions[0])[None, :] & (queries.positions == queries.positions[-1])[:, None]
        return seen | ((follows & edge)[None] & (keys.attention_mask > 0)[:, None, :])


class DocumentsOfOwnShardOnly(Conforming):
    """Across shards document boundaries are ignored: every earlier token is visible."""

    def visible_block(self, queries, keys):
        if queries is keys:
            return super().visible_block(queries, keys)
        return super().visible_block(queries._replace(documents=None), keys._replace(documents=None))


class PaddingStaysAtHome(Conforming):
    """Keys are sent round the ring, but the attention mask of the local shard is applied to them."""

    def visible_block(self, queries, keys):
        return super().visible_block(queries, keys._replace(attention_mask=queries.attention_mask))


class RestOfRowUnseen(Conforming):
    """Blocks of earlier shards are skipped as if they were later ones."""

    def merge(self, old, new):
        return old


class KeyHeadsTiled(Conforming):
    """Key heads are repeated one after the other instead of each beside itself."""

    def repeat_heads(self, k):
        repeated = super().repeat_heads(k)
        return repeated.reshape(*k.shape[:3], self.repeats(), k.shape[3]).swapaxes(2, 3).reshape(repeated.shape)
