"""The training step by automatic partitioning: a single-device program with sharding annotations.

No collective is written anywhere. The partitioner derives them from the shardings of the parameters and of the batch,
and from `constrain` on activations.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from conformance.contract.budget import Allowance
from conformance.contract.implementation import Declarations
from conformance.contract.placements import Placements
from suites.training.jax import optimizers
from suites.training.jax.state import Named
from suites.training.jax.step import TrainingStep


class AutomaticTraining(TrainingStep):
    """One training step on whole arrays; what is stored with padding is cut to its canonical shape for use."""

    @cached_property
    def program(self):
        """`jit` of the step; the output state has the shardings of the input state."""
        shardings = jax.tree.map(lambda spec: NamedSharding(self.device_mesh, spec), self.state_specs())
        return jax.jit(self.whole_step, out_shardings=(shardings, None))

    def whole_step(self, state: dict, batch: Named) -> tuple[dict, Named]:
        batch = {key: self.constrain(value, self.batch_placements(key)) for key, value in batch.items()}
        gradients, sums, rows = self.accumulate(state["parameters"], batch)
        elements = sums.pop("weight")
        weight = jnp.where(elements == 0, 1, elements)  # nothing valid in the whole batch: gradients are zero
        gradients = {name: self.mean_gradient(name, g, weight) for name, g in gradients.items()}
        wide = {name: g.astype(self.master) for name, g in gradients.items()}
        norm = self.global_norm(wide)
        state = self.adjusted(self.update(state, wide, self.clip_factor(norm)), sums)
        rows = self.mean_inputs(rows, weight)
        observed = {name: self.observation(name, value) for name, value in rows.items()}
        scalars = self.finished_sums(sums, weight)
        scalars |= {"metrics/tokens": elements / self.weight_per_token, "metrics/grad_norm": norm}
        observed |= {name: self.constrain(value, {}) for name, value in scalars.items()}
        observed |= {f"batch/{key}": value for key, value in batch.items()}
        return state, observed | {f"gradients/{name}": g for name, g in gradients.items()}

    def in_slices(self, value: jax.Array, number: int) -> jax.Array:
        """Each device's rows are cut into slices, so that none has to leave it: a slice has rows of all devices."""
        parts = value.reshape(self.size(self.row_axes), number, -1, *value.shape[1:])
        return jnp.swapaxes(parts, 0, 1).reshape(number, -1, *value.shape[1:])

    def in_rows(self, value: jax.Array) -> jax.Array:
        parts = value.reshape(len(value), self.size(self.row_axes), -1, *value.shape[2:])
        return jnp.swapaxes(parts, 0, 1).reshape(-1, *value.shape[2:])

    def uneven_slice(self, value: jax.Array, start: int, size: int) -> jax.Array:
        parts = self.size(self.row_axes)
        rows = value.reshape(parts, -1, *value.shape[1:])[:, start // parts : (start + size) // parts]
        return rows.reshape(size, *value.shape[1:])

    def joined_slices(self, slices: list[jax.Array]) -> jax.Array:
        parts = [value.reshape(self.size(self.row_axes), -1, *value.shape[1:]) for value in slices]
        return jnp.concatenate(parts, axis=1).reshape(-1, *slices[0].shape[1:])

    def mean_gradient(self, name: str, g: jax.Array, weight: jax.Array) -> jax.Array:
        """The whole gradient, with the sharding of its parameter."""
        return self.constrain(self.round_gradient(g.astype(self.master) / weight), self.gradient_placements(name))

    def orthogonal(self, name: str, u: jax.Array) -> jax.Array:
        """Gathered once, and every device makes all products: divided, each of them would be gathered.

        The padding of its last blocks is removed before and added again after.
        """
        whole = self.constrain(u[tuple(map(slice, self.contract.shapes[name]))], {})
        widths = [(0, stored - size) for stored, size in zip(u.shape, whole.shape, strict=True)]
        return jnp.pad(self.constrain(optimizers.newton_schulz(whole), {}), widths)

    def tensor_norms(self, values: Named) -> Named:
        """The padding of the last blocks is zero, so it adds nothing to a norm."""
        return {name: jnp.sqrt(jnp.sum(value * value)) for name, value in values.items()}

    def global_norm(self, gradients: Named) -> jax.Array:
        return jnp.sqrt(sum(jnp.sum(g * g) for g in gradients.values()))

    def constrain(self, x: jax.Array, placements: Placements) -> jax.Array:
        """x with a sharding constraint."""
        return jax.lax.with_sharding_constraint(x, self.sharding(placements))

    def sharding(self, placements: Placements) -> NamedSharding:
        """How values inside the step lie."""
        return NamedSharding(self.device_mesh, self.spec(placements))

    def constrain_both(self, x: jax.Array, placements: Placements, of_gradient: Placements) -> jax.Array:
        """x with a sharding, and its gradient with another one.

        Without the second, a gradient is first made as whole as x is.
        """

        @jax.custom_vjp
        def constrained(x: jax.Array) -> jax.Array:
            return self.constrain(x, placements)

        constrained.defvjp(lambda x: (constrained(x), None), lambda _, g: (self.constrain(g, of_gradient),))
        return constrained(x)

    def on_rows(self, x: jax.Array) -> jax.Array:
        """x sharded by rows and by nothing else."""
        return self.constrain(x, self.row_placements())

    def observation(self, name: str, value: jax.Array) -> jax.Array:
        """An output of the program, zero-padded where it must divide evenly."""
        for dim, stored in self.observation_positions(name).items():
            widths = [(0, len(stored) - n if d == dim else 0) for d, n in enumerate(value.shape)]
            value = jnp.pad(value, widths)
        return self.constrain(value, self.observation_placements(name))

    def canonical(self, p: Named) -> Named:
        """Parameters without the padding of their last blocks."""
        return {name: value[tuple(map(slice, self.contract.shapes[name]))] for name, value in p.items()}

    def declare(self) -> Declarations:
        parameters, budget = {name: self.placements(name) for name in self.contract.shapes}, self.budget()
        at_most = None if budget is None else tuple(budget)
        return Declarations(layout=parameters | self.layout_of_others(), at_most=at_most)

    def budget(self) -> Iterable[Allowance] | None:
        """What the partitioner may send in one step; None: that is not declared."""
        return None
