"""Ulysses: for attention a rank trades its tokens of all heads for all tokens of some heads, and back.

B: rows  S: tokens of this rank  T: tokens of all shards  H: query heads  K: key heads  E: head size
Source: Jacobs et al., DeepSpeed Ulysses, section 3.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from conformance.contract.implementation import Unsupported
from suites.sequence.step_budget import HEADS
from suites.sequence.torch_manual import sequence_parallel
from suites.sequence.torch_manual.collectives import Exchange
from suites.sequence.torch_manual.context import ContextParallel
from suites.training.step_budget import Budgets
from suites.training.torch import layers
from suites.training.torch.state import Named


class Ulysses(ContextParallel):
    """Law: heads and tokens come back as they were; in between attention sees whole rows, in the order of shards."""

    sends: ClassVar[Budgets] = HEADS

    def attend(self, q_BSHE: Tensor, k_BSKE: Tensor, v_BSKE: Tensor, batch: Named) -> Tensor:
        if self.context_size() == 1:
            return super().attend(q_BSHE, k_BSKE, v_BSKE, batch)  # type: ignore[misc]
        k_BSKE, v_BSKE = self.repeat_heads(k_BSKE), self.repeat_heads(v_BSKE)
        q_BTHE, k_BTKE, v_BTKE = (self.tokens_to_heads(each) for each in (q_BSHE, k_BSKE, v_BSKE))
        mixed_BTHE = super().attend(q_BTHE, k_BTKE, v_BTKE, batch)  # type: ignore[misc]
        return self.heads_to_tokens(mixed_BTHE)

    def tokens_to_heads(self, x_BSHE: Tensor) -> Tensor:
        """This rank's tokens of all heads -> all tokens of this rank's heads."""
        return Exchange.apply(x_BSHE, self.axis("sequence"), 2, 1)

    def heads_to_tokens(self, x_BTHE: Tensor) -> Tensor:
        """All tokens of this rank's heads -> this rank's tokens of all heads."""
        return Exchange.apply(x_BTHE, self.axis("sequence"), 1, 2)

    def repeat_heads(self, k_BSKE: Tensor) -> Tensor:
        """Each key head beside itself until every rank gets some; the gradients of the copies are summed."""
        return k_BSKE.repeat_interleave(self.repeats(), dim=2)

    def repeats(self) -> int:
        """The fewest copies of each key head with which the heads divide over the axis."""
        heads = max(self.contract.model.num_kv_heads // self.tensor_size(), 1)
        return math.lcm(heads, self.context_size()) // heads

    def visible(self, batch: Named) -> Tensor:
        """[B, T, T]: whom each token of the whole row sees, all in the order of shards."""
        if self.context_size() == 1:
            return super().visible(batch)  # type: ignore[misc]
        attention_mask_BT, documents_BS = self.gather_row(batch["attention_mask"]), self.documents(batch)
        documents_BT = None if documents_BS is None else self.gather_row(documents_BS)
        documents = None if documents_BT is None else (documents_BT, documents_BT)
        positions_T = torch.tensor(self.token_order())
        return layers.visible(positions_T, positions_T, attention_mask_BT, documents, self.contract.model.causal)

    def require_supported(self) -> None:
        super().require_supported()
        size, model = self.context_size(), self.contract.model
        heads = model.num_heads // self.tensor_size()
        group = heads // max(model.num_kv_heads // self.tensor_size(), 1) if heads else 1
        if heads % size:
            raise Unsupported(f"{heads} heads of a device cannot be divided over {size} devices of the sequence axis.")
        if group % self.repeats():
            raise Unsupported(f"{model.num_kv_heads} key heads cannot be repeated evenly over {size} devices.")


class FeedForward(Ulysses, sequence_parallel.FeedForward):
    pass


class Attention(Ulysses, sequence_parallel.Attention):
    pass


class Layer(Ulysses, sequence_parallel.Layer):
    pass


class LanguageModel(Ulysses, sequence_parallel.LanguageModel):
    pass
