"""A training step followed by an evaluation of the updated model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from reference.held_out import apart
from reference.torch import training
from reference.torch.layers import Tensors, dtype_of
from reference.torch.training import State
from reference.torch.transformer import LanguageModel, build


class Trainer(training.Trainer):
    """Law: loss and accuracy are means over all valid tokens of the data set, each counted once, without dropout.

    The model is the one after the update of the step, and evaluation changes nothing of the state.
    """

    def __init__(self, contract: Any, dtype: str) -> None:
        super().__init__(contract, dtype)
        self._calm = cast(LanguageModel, build(replace(self.model, dropout=0.0), self.policy.statistics))

    def step(self, state: State, batch: Mapping[str, np.ndarray]) -> tuple[State, Tensors]:
        """The observations of a plain step, and after them metrics/evaluation/{loss, accuracy, tokens}."""
        rows, held_out = apart(batch)
        new_state, observations = super().step(state, rows)
        with torch.no_grad():
            return new_state, observations | self._evaluate(new_state["parameters"], self._cast(held_out))

    def _evaluate(self, parameters: Tensors, batch: Tensors) -> Tensors:
        loaded = {name: p.to(dtype_of(self.policy.compute)) for name, p in parameters.items()}
        forward = torch.func.functional_call(self._calm, loaded, (batch,), strict=True)
        right_BS = forward.observed["outputs/logits"].argmax(-1) == self._calm.targets(batch)
        tokens = forward.sums["tokens"]
        metrics = {"loss": forward.sums["loss"] / tokens, "accuracy": (batch["mask"] * right_BS).sum() / tokens}
        return {f"metrics/evaluation/{name}": value for name, value in (metrics | {"tokens": tokens}).items()}
