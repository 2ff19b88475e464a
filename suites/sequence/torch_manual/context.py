"""Rows sharded over the sequence axis: what a token needs from other shards besides attention.

B: rows  S: tokens at hand  T: tokens of all shards  C: runs of tokens at hand
Gradients and losses are summed over the sequence axis as over the data axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from suites.sequence.token_layout import CONTEXT
from suites.sequence.torch_manual.sequence_parallel import SequenceParallel
from suites.training.torch.state import Named


class ContextParallel(SequenceParallel):
    """A rank holds some tokens of its rows: one run of them, unless a subclass says otherwise."""

    token_axes = CONTEXT

    def pass_on(self, x: Any) -> Any:
        """Every rank hands what it holds to the next one, the last to the first."""
        return self.pass_by(x, 1)

    def pass_by(self, x: Any, places: int) -> Any:
        """Every rank hands the tensors that it holds to the one so many places further, round the ring."""
        axis = self.axis("sequence")
        return tree_map_only(Tensor, lambda part: axis.permute(part, places), x)

    def gather_row(self, x_BS: Tensor) -> Tensor:
        """[B, T]: the tokens of all shards, in the order in which they are stored."""
        return self.axis("sequence").all_gather(x_BS, 1)

    def documents(self, batch: Named) -> Tensor | None:
        """A document may begin in one shard and go on in the next: its number counts the starts in all before it."""
        if not self.contract.model.documents or self.context_size() == 1:
            return super().documents(batch)  # type: ignore[misc]
        return self.count_before(batch["document_starts"])

    def count_before(self, document_starts_BS: Tensor) -> Tensor:
        """[B, S]: starts up to each token, counted over the whole row."""
        counted_BT = self.gather_row(document_starts_BS)[:, _places(self.token_order())].cumsum(1)
        return counted_BT[:, self.block_positions().clamp(min=0)]

    def targets(self, batch: Named) -> Tensor:
        """The next token of a row may be the first of another shard."""
        if not self.contract.model.shift_labels:
            return super().targets(batch)  # type: ignore[misc]
        tokens_BCS = batch["tokens"].unflatten(1, (self.chunks(), -1))
        following_BC = self.first_of_next(tokens_BCS[:, :, 0])
        return torch.cat([tokens_BCS[:, :, 1:], following_BC[:, :, None]], dim=2).flatten(1)

    def first_of_next(self, first_BC: Tensor) -> Tensor:
        """First token of every run at hand -> first token of the run that follows it in the row."""
        return self.pass_by(first_BC, -1) if self.context_size() > 1 else first_BC.roll(-1, dims=1)

    # Declarations.


def _places(stored_T: np.ndarray) -> np.ndarray:
    """Canonical index -> where it is stored."""
    return np.argsort(np.where(stored_T < 0, len(stored_T), stored_T), kind="stable")
