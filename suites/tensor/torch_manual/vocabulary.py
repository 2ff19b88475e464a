"""Embedding, head and cross-entropy with the vocabulary sharded over the tensor axis.

B: rows  S: tokens  D: hidden  V: this rank's part of the vocabulary, filled up to the same size on every rank
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from conformance.contract.placements import Placements, Shard
from suites.tensor.layout import positions
from suites.tensor.torch_manual.linear import LinearLayers
from suites.training.state_layout import Positions
from suites.training.torch.state import Named


class VocabularyParallel(LinearLayers):
    """No rank ever sees all logits of a token: maximum, sum of exponentials and target logit are reduced."""

    def embed(self, tokens_BS: Tensor, p: Named) -> Tensor:
        return self.leave_block(self.look_up(tokens_BS, p))

    def look_up(self, tokens_BS: Tensor, p: Named) -> Tensor:
        """The rows of the ids that this rank stores, zero for the others."""
        local_BS, stored_BS = self.local_ids(tokens_BS)
        return p["embedding.weight"][local_BS] * stored_BS[..., None]

    def local_ids(self, ids_BS: Tensor) -> tuple[Tensor, Tensor]:
        """(id within this rank's part of the vocabulary, or 0; is it stored here)."""
        local_BS = ids_BS - self.tensor_rank() * self.local_vocabulary
        stored_BS = (local_BS >= 0) & (local_BS < self.local_vocabulary)
        return local_BS.where(stored_BS, 0), stored_BS

    @property
    def local_vocabulary(self) -> int:
        return -(-self.contract.model.vocabulary // self.tensor_size())

    def real_ids(self) -> Tensor:
        """[V]: False for the padding ids of the last ranks."""
        ids_V = torch.arange(self.local_vocabulary) + self.tensor_rank() * self.local_vocabulary
        return ids_V < self.contract.model.vocabulary

    def logits(self, x_BSD: Tensor, p: Named) -> Tensor:
        """This rank's part of the logits; minus infinity where the vocabulary is filled up."""
        weight_DV = p["embedding.weight"].T if self.contract.model.tied else p["head.weight"]
        return self.entered_product(x_BSD, weight_DV).masked_fill(~self.real_ids(), -math.inf)

    def token_losses(self, logits_BSV: Tensor, targets_BS: Tensor) -> tuple[Tensor, Tensor]:
        """(cross-entropy with smoothed labels, z term) of each token, in the master dtype."""
        logits_BSV, smoothing = logits_BSV.to(self.master), self.contract.model.label_smoothing
        normalizer_BS = self.log_sum_exp(logits_BSV)
        entropy_BS = normalizer_BS - (1 - smoothing) * self.target_logit(logits_BSV, targets_BS)
        if smoothing:
            entropy_BS = entropy_BS - smoothing * self.mean_logit(logits_BSV)
        return entropy_BS, self.contract.model.z_loss * normalizer_BS**2

    def log_sum_exp(self, logits_BSV: Tensor) -> Tensor:
        largest_BS = self.largest_logit(logits_BSV)
        return self.denominator((logits_BSV - largest_BS[..., None]).exp()).log() + largest_BS

    def largest_logit(self, logits_BSV: Tensor) -> Tensor:
        return self.max_over_tensor(logits_BSV.amax(-1))

    def denominator(self, exponentials_BSV: Tensor) -> Tensor:
        """That of the softmax: the sum over the whole vocabulary."""
        return self.reduce_from_tensor(exponentials_BSV.sum(-1))

    def target_logit(self, logits_BSV: Tensor, targets_BS: Tensor) -> Tensor:
        local_BS, stored_BS = self.local_ids(targets_BS)
        return self.reduce_from_tensor(logits_BSV.gather(-1, local_BS[..., None])[..., 0].where(stored_BS, 0))

    def mean_logit(self, logits_BSV: Tensor) -> Tensor:
        """The mean over the real vocabulary of all ranks."""
        return self.reduce_from_tensor(self.real_sum(logits_BSV)) / self.contract.model.vocabulary

    def real_sum(self, logits_BSV: Tensor) -> Tensor:
        """Over this rank's part of the vocabulary."""
        return logits_BSV.where(self.real_ids(), 0).sum(-1)

    def output_placements(self) -> dict[str, Placements]:
        return {**super().output_placements(), "outputs/logits": {**self.row_placements(), self.tensor_axis: Shard(2)}}

    def positions(self, name: str) -> Positions:
        vocabulary = self.contract.model.vocabulary
        if name == "outputs/logits" and vocabulary % self.tensor_size():
            return {2: positions([(vocabulary, 1)], self.tensor_size())}
        return super().positions(name)
