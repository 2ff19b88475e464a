"""The single-device training step of a function of rows, in JAX."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reference.jax import optimizers
from reference.precision import policy
from reference.rows import OPERAND, RowFunction

Tensors = dict[str, jax.Array]

FUNCTIONS: dict[str, Callable[[jax.Array, int], jax.Array]] = {
    "sum": lambda x, root: jnp.sum(x, 0),
    "mean": lambda x, root: jnp.mean(x, 0),
    "max": lambda x, root: jnp.max(x, 0),
    "min": lambda x, root: jnp.min(x, 0),
    "same": lambda x, root: x,
    "transpose": lambda x, root: x.swapaxes(0, 1),
    "roll": lambda x, root: jnp.roll(x, 1, 0),
    "shift": lambda x, root: jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]),
    "reverse": lambda x, root: x[::-1],
    "row": lambda x, root: x[root],
}


class Trainer:
    """Places the operand, trains it and collects the state: `contract` gives model and recipe (duck-typed)."""

    def __init__(self, contract: Any, dtype: str) -> None:
        self.model: RowFunction = contract.model
        self.recipe, self.policy = contract.recipe, policy(dtype, contract.recipe.precision)
        self._compiled = jax.jit(self._step)

    def place(self, parameters: Mapping[str, np.ndarray]) -> dict[str, Any]:
        x = {OPERAND: jnp.asarray(parameters[OPERAND], self.policy.optimizer)}
        return {"parameters": x, "optimizer": optimizers.slots(x, self.recipe), "count": jnp.zeros((), jnp.int32)}

    def step(self, state: dict[str, Any], batch: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], Tensors]:
        """One training step -> (new state, observations in data-flow order)."""
        state, observed = self._compiled(state, dict(batch))
        return state, dict(observed)

    def collect(self, state: dict[str, Any]) -> Tensors:
        slots = {f"optimizer/{slot}/{OPERAND}": values[OPERAND] for slot, values in state["optimizer"].items()}
        return {f"parameters/{OPERAND}": state["parameters"][OPERAND], **slots, "optimizer/count": state["count"]}

    def _step(self, state: dict[str, Any], batch: Tensors) -> tuple[dict[str, Any], OrderedDict[str, jax.Array]]:
        def loss_of(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            y = FUNCTIONS[self.model.function](x, self.model.root)
            return jnp.sum(batch["weights"].astype(wide) * y.astype(wide)), y

        wide, x = self.policy.statistics, state["parameters"][OPERAND].astype(self.policy.compute)
        (loss, y), gradient = jax.value_and_grad(loss_of, has_aux=True)(x)
        observed = OrderedDict({"outputs/y": y})
        if self.model.whole:
            observed["outputs/counts"] = FUNCTIONS[self.model.function](batch["counts"], self.model.root)
        observed |= {"loss": loss, f"gradients/{OPERAND}": gradient.astype(self.policy.gradients)}
        kept, count = {OPERAND: gradient.astype(self.policy.optimizer)}, state["count"] + 1
        moved, slots = optimizers.update(state["parameters"], kept, state["optimizer"], count, self.recipe)
        return {"parameters": moved, "optimizer": slots, "count": count}, observed
