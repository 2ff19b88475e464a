"""A training step followed by an evaluation of the updated model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from reference.held_out import apart
from reference.jax import training
from reference.jax.layers import Tensors
from reference.jax.training import State
from reference.jax.transformer import LanguageModel, build


class Trainer(training.Trainer):
    """Law: loss and accuracy are means over all valid tokens of the data set, each counted once, without dropout.

    The model is the one after the update of the step, and evaluation changes nothing of the state.
    """

    def __init__(self, contract: Any, dtype: str) -> None:
        super().__init__(contract, dtype)
        calm = replace(self.model, dropout=0.0)
        self._calm, _ = nnx.split(nnx.eval_shape(lambda: build(calm, self.policy.statistics)))
        self._evaluation = jax.jit(self._evaluate)

    def step(self, state: State, batch: Mapping[str, np.ndarray]) -> tuple[State, dict[str, jax.Array]]:
        """The observations of a plain step, and after them metrics/evaluation/{loss, accuracy, tokens}."""
        rows, held_out = apart(batch)
        new_state, observations = super().step(state, rows)
        return new_state, observations | dict(self._evaluation(new_state["parameters"], held_out))

    def _evaluate(self, parameters: Tensors, held_out: Tensors) -> OrderedDict[str, jax.Array]:
        batch = self._cast(held_out)
        loaded = {name: p.astype(self.policy.compute) for name, p in parameters.items()}
        state = nnx.map_state(lambda path, blank: blank.replace(loaded[".".join(map(str, path))]), self._blank)
        model = cast(LanguageModel, nnx.merge(self._calm, state))
        forward = model(batch)
        right_BS = jnp.argmax(forward.observed["outputs/logits"], axis=-1) == model.targets(batch)
        tokens = forward.sums["tokens"]
        metrics = {"loss": forward.sums["loss"] / tokens, "accuracy": jnp.sum(batch["mask"] * right_BS) / tokens}
        return OrderedDict(
            {f"metrics/evaluation/{name}": value for name, value in (metrics | {"tokens": tokens}).items()}
        )
