"""Positions, attention masks, targets and dropout masks of the tokens that a device holds.

B: rows  S: tokens at hand  T: key tokens  D: hidden
"""

from __future__ import annotations

import torch
from torch import Tensor

from reference.torch.dropout import keep_mask
from suites.training.torch import layers
from suites.training.torch.state import Named, TorchTraining


class Tokens(TorchTraining):
    """Every rank has all tokens of its rows; a suite that divides rows overrides where its own tokens stand.

    The residual stream may hold other tokens than the blocks between which it runs: one rank's part of them.
    """

    def stream_positions(self) -> Tensor:
        """Canonical index in its row of every token of the residual stream."""
        return torch.arange(self.row_length)

    def block_positions(self) -> Tensor:
        """Canonical index in its row of every token that a block computes with."""
        return torch.arange(self.row_length)

    def visible(self, batch: Named) -> Tensor:
        """[B, S, T]: which keys each query sees."""
        positions, documents_BS = self.block_positions(), self.documents(batch)
        documents = None if documents_BS is None else (documents_BS, documents_BS)
        return layers.visible(positions, positions, batch["attention_mask"], documents, self.contract.model.causal)

    def documents(self, batch: Named) -> Tensor | None:
        """[B, S]: number of the document of every token of a block; None where a row is one document."""
        return batch["document_starts"].cumsum(1) if self.contract.model.documents else None

    def targets(self, batch: Named) -> Tensor:
        """[B, S]: the id that each token shall predict."""
        return batch["tokens"].roll(-1, dims=1) if self.contract.model.shift_labels else batch["targets"]

    def add_positions(self, x_BSD: Tensor) -> Tensor:
        """The residual stream with sinusoidal positions, where the model has them."""
        if self.contract.model.positions != "sinusoidal":
            return x_BSD
        return x_BSD + layers.sinusoidal(self.stream_positions(), x_BSD.shape[2]).to(x_BSD.dtype)

    def dropout(self, x_BSD: Tensor, site: str, batch: Named, observed: Named) -> Tensor:
        """x where it is kept, enlarged so that its mean stays (Srivastava et al., 2014); the mask joins `observed`."""
        rate = self.contract.model.dropout
        if not rate:
            return x_BSD
        keep_BSD = self.keep_mask(site, batch["seeds"])
        observed[f"masks/{site}"] = keep_BSD.to(self.master)
        return (x_BSD / (1 - rate)).where(keep_BSD, 0)

    def keep_mask(self, site: str, seeds_B: Tensor) -> Tensor:
        """Draws the mask of whole rows and takes the tokens at hand, so that the mask does not depend on the mesh."""
        model = self.contract.model
        return keep_mask(seeds_B, site, (self.row_length, model.hidden), model.dropout)[:, self.stream_positions()]
