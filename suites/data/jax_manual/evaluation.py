"""Evaluation on a data set whose rows neither the devices nor the batches of each divide.

Law: rows are filled up to whole rounds of so many rows on every device. What fills up has no valid token; sums over all
rounds and devices are divided once. The model is the updated one, without dropout.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from conformance.contract.implementation import Unsupported
from reference.held_out import ROWS, apart
from suites.tensor.jax_manual.transformer import LanguageModel
from suites.training.jax.state import Named, pad_to_multiple

ROUND = 2  # rows of a device that are evaluated at once


class Evaluation(LanguageModel):
    """A mixin for a language model."""

    evaluating = False

    @cached_property
    def evaluation(self):
        """`jit(shard_map(device_evaluation))`."""
        rows = self.spec(self.row_placements())

        def evaluate(state: dict, held_out: Named) -> Named:
            on_each_device = jax.shard_map(
                self.device_evaluation,
                mesh=self.device_mesh,
                in_specs=(self.state_specs(), dict.fromkeys(held_out, rows)),
                out_specs=PartitionSpec(),
                check_vma=False,
            )
            return on_each_device(state, self.filled(held_out))

        return jax.jit(evaluate)

    def step(self, state: dict, batch: dict[str, Any]) -> tuple[dict, dict[str, Any]]:
        training, held_out = apart(batch)
        new_state, observed = super().step(state, training)
        metrics = self.evaluation(self.evaluated(state, new_state), held_out)
        return new_state, {**observed, **metrics}

    def evaluated(self, before: dict, after: dict) -> dict:
        """The state that is evaluated, of those before and after the update."""
        return after

    def filled(self, held_out: Named) -> Named:
        """Whole rounds on all devices; no token of what fills them up is valid."""
        return {key: pad_to_multiple(value, 0, self.rows_at_once) for key, value in held_out.items()}

    @property
    def rows_at_once(self) -> int:
        return ROUND * self.size(self.row_axes)

    @property
    def rounds(self) -> int:
        return -(-ROWS // self.rows_at_once)

    def device_evaluation(self, state: dict, held_out: Named) -> Named:
        """The state and the rows of one device -> means over the data set."""
        parts = {key: value.reshape(-1, ROUND, *value.shape[1:]) for key, value in held_out.items()}
        parameters, self.evaluating = self.read_parameters(state), True
        with jax.named_scope("update"):
            _, sums_RK = jax.lax.scan(lambda _, part: (None, self.round_sums(parameters, part)), None, parts)
            loss, right, weight, tokens = self.sum_over_data(self.summed(sums_RK))
        self.evaluating = False
        metrics = {"loss": loss / weight, "accuracy": right / weight, "tokens": tokens}
        return {f"metrics/evaluation/{name}": value for name, value in metrics.items()}

    def round_sums(self, parameters: Named, part: Named) -> jax.Array:
        """Of some rows: loss, right choices, and valid tokens."""
        loss, tokens, observed = self.forward(self.to_compute(parameters), part)
        right_BS = jnp.argmax(observed["outputs/logits"], axis=-1) == self.targets(part)
        return jnp.stack([loss, jnp.sum(part["mask"].astype(self.master) * right_BS), tokens])

    def summed(self, sums_RK: jax.Array) -> jax.Array:
        """The sums of all rounds of a device -> loss, right choices, what both are divided by, valid tokens."""
        loss, right, tokens = sums_RK.sum(0)
        return jnp.stack([loss, right, tokens, tokens])

    def dropout(self, x: jax.Array, site: str, batch: Named, observed: Named) -> jax.Array:
        return x if self.evaluating else super().dropout(x, site, batch, observed)

    def compute_axes(self) -> tuple[str, ...]:
        """What fills up the last round is computed too."""
        return ()

    def require_supported(self) -> None:
        super().require_supported()
        if self.mesh.size("tensor") > 1:
            raise Unsupported("Evaluation chooses among all ids, and the tensor axis divides them.")
