"""Evaluation on a data set whose rows neither the ranks nor the batches of each divide.

Law: rows are filled up to whole rounds of so many rows on every rank. What fills up has no valid token; sums over all
rounds and ranks are divided once. The model is the updated one, without dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conformance.contract.implementation import Unsupported
from reference.held_out import ROWS, apart
from suites.tensor.torch_manual.transformer import LanguageModel
from suites.training.torch.state import Named, State, pad_to_multiple

ROUND = 2  # rows of a rank that are evaluated at once


class Evaluation(LanguageModel):
    """A mixin for a language model."""

    evaluating = False

    def step(self, state: State, batch: dict[str, np.ndarray]) -> tuple[State, Mapping[str, Any]]:
        training, held_out = apart(batch)
        new_state, observed = super().step(state, training)
        parts = self.parts(self.filled(held_out))
        self.evaluating = True
        with torch.no_grad():
            sums_RK = torch.stack(self.evaluate(self.evaluated(state, new_state), parts))
            loss, right, weight, tokens = self.sum_over_data(self.summed(sums_RK))
        self.evaluating = False
        metrics = {"loss": loss / weight, "accuracy": right / weight, "tokens": tokens}
        return new_state, {**observed, **{f"metrics/evaluation/{name}": value for name, value in metrics.items()}}

    def evaluated(self, before: State, after: State) -> State:
        """The state that is evaluated, of those before and after the update."""
        return after

    def filled(self, held_out: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Whole rounds on all ranks; no token of what fills them up is valid."""
        return {key: pad_to_multiple(value, 0, self.rows_at_once) for key, value in held_out.items()}

    @property
    def rows_at_once(self) -> int:
        return ROUND * self.size(self.row_axes)

    @property
    def rounds(self) -> int:
        return -(-ROWS // self.rows_at_once)

    def parts(self, held_out: Mapping[str, np.ndarray]) -> list[Named]:
        """The rows of this rank, round by round."""
        own = {key: self.block(value, self.row_placements()) for key, value in held_out.items()}
        rows = {key: torch.tensor(value, dtype=self.batch_dtype(key, value)) for key, value in own.items()}
        rounds = zip(*(value.split(ROUND) for value in rows.values()), strict=True)
        return [dict(zip(rows, values, strict=True)) for values in rounds]

    def evaluate(self, state: State, parts: list[Named]) -> list[Tensor]:
        parameters = self.read_parameters(state)
        return [self.round_sums(self.to_compute(parameters), part) for part in parts]

    def round_sums(self, p: Named, part: Named) -> Tensor:
        """Of some rows: loss, right choices, and valid tokens."""
        loss, tokens, observed = self.forward(p, part)
        right_BS = observed["outputs/logits"].argmax(-1) == self.targets(part)
        return torch.stack([loss, (part["mask"] * right_BS).sum(), tokens])

    def summed(self, sums_RK: Tensor) -> Tensor:
        """The sums of all rounds of a rank -> loss, right choices, what both are divided by, valid tokens."""
        loss, right, tokens = sums_RK.sum(0)
        return torch.stack([loss, right, tokens, tokens])

    def dropout(self, x: Tensor, site: str, batch: Named, observed: Named) -> Tensor:
        return x if self.evaluating else super().dropout(x, site, batch, observed)

    def compute_axes(self) -> tuple[str, ...]:
        """What fills up the last round is computed too."""
        return ()

    def require_supported(self) -> None:
        super().require_supported()
        if self.mesh.size("tensor") > 1:
            raise Unsupported("Evaluation chooses among all ids, and the tensor axis divides them.")
