"""The operators of tensor parallelism: what each does to activations, and to their gradients.

Law of a pair: the gradient of a copy is a sum, the gradient of a sum is a copy; likewise gather and split.
JAX differentiates each device's program by itself, so every operator states its gradient.
Source: Shoeybi et al., Megatron-LM, section 3 (operators f and g).
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from suites.tensor.layout import TensorLayout
from suites.tensor.step_budget import BUDGETS
from suites.training.jax.manual import ShardMapTraining
from suites.training.jax.state import pad_to_multiple
from suites.training.state_layout import first_copies
from suites.training.step_budget import Budgets


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def copy_to(x: jax.Array, axis: str) -> jax.Array:
    """Identity; the gradients of all devices are summed."""
    return x


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def reduce_from(x: jax.Array, axis: str) -> jax.Array:
    """Sum over the devices; the gradient goes to each of them as it is."""
    return jax.lax.psum(x, axis)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def gather_from(x: jax.Array, axis: str, dim: int) -> jax.Array:
    """Blocks of all devices side by side along dim; each takes its own block of the gradient."""
    return jax.lax.all_gather(x, axis, axis=dim % x.ndim, tiled=True)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def split_to(x: jax.Array, axis: str, dim: int) -> jax.Array:
    """This device's block along dim; the blocks of the gradient are gathered."""
    return _own_block(x, axis, dim)


def _own_block(x: jax.Array, axis: str, dim: int) -> jax.Array:
    width = x.shape[dim] // jax.lax.axis_size(axis)
    return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(axis) * width, width, dim % x.ndim)


copy_to.defvjp(lambda x, axis: (x, None), lambda axis, _, g: (jax.lax.psum(g, axis),))
reduce_from.defvjp(lambda x, axis: (reduce_from(x, axis), None), lambda axis, _, g: (g,))
gather_from.defvjp(
    lambda x, axis, dim: (gather_from(x, axis, dim), None), lambda axis, dim, _, g: (_own_block(g, axis, dim),)
)
split_to.defvjp(
    lambda x, axis, dim: (split_to(x, axis, dim), None), lambda axis, dim, _, g: (gather_from(g, axis, dim),)
)


class TensorParallel(TensorLayout, ShardMapTraining):
    """A training step with parameters sharded over the tensor axis; an axis of size 1 communicates nothing."""

    sends: ClassVar[Budgets] = BUDGETS
    model_axes: ClassVar[tuple[str, ...]] = ("tensor",)  # the axes that shard parameters

    def axis_rank(self, axis: str) -> jax.Array | int:
        """This device's place along a mesh axis."""
        return jax.lax.axis_index(axis) if self.mesh.size(axis) > 1 else 0

    def tensor_rank(self) -> jax.Array | int:
        return self.axis_rank(self.tensor_axis)

    def copy_to_tensor(self, x: jax.Array) -> jax.Array:
        return copy_to(x, self.tensor_axis) if self.tensor_size() > 1 else x

    def reduce_from(self, x: jax.Array, axis: str) -> jax.Array:
        return reduce_from(x, axis) if self.mesh.size(axis) > 1 else x

    def reduce_from_tensor(self, x: jax.Array) -> jax.Array:
        return self.reduce_from(x, self.tensor_axis)

    def gather_from_tensor(self, x: jax.Array, dim: int) -> jax.Array:
        return gather_from(x, self.tensor_axis, dim) if self.tensor_size() > 1 else x

    def split_to_tensor(self, x: jax.Array, dim: int) -> jax.Array:
        """Where dim does not divide, the last blocks end in zeros."""
        if self.tensor_size() == 1:
            return x
        return split_to(pad_to_multiple(x, dim, self.tensor_size()), self.tensor_axis, dim)

    def sum_over_tensor(self, x: jax.Array) -> jax.Array:
        """Sum without a gradient."""
        return self.sum_over((self.tensor_axis,), x)

    def max_over_tensor(self, x: jax.Array) -> jax.Array:
        """Maximum, a constant to differentiation."""
        x = jax.lax.stop_gradient(x)
        return jax.lax.pmax(x, self.tensor_axis) if self.tensor_size() > 1 else x

    # Overrides of the training step for the axis.

    def sum_over_model(self, x: jax.Array) -> jax.Array:
        return self.sum_over(self.model_axes, x)

    def squared_norm(self, name: str, g: jax.Array) -> jax.Array:
        """A replicated parameter counts on the first rank only, a repeated element where it is stored first."""
        if self.is_repeated(name):
            g = self.without_repeats(name, g)
        squares = super().squared_norm(name, g)
        for axis in self.active(self.model_axes):
            if axis not in self.gradient_placements(name):
                squares = jnp.where(self.axis_rank(axis) == 0, squares, 0)
        return squares

    def without_repeats(self, name: str, g: jax.Array) -> jax.Array:
        """Zero where a lower rank stores the same element."""
        [(dim, stored)] = self.computed_positions(name).items()
        return g * along(dim, self.own_part(dim, first_copies(stored), padding=0), g)

    def own_part(self, dim: int, elements: np.ndarray, padding: int) -> jax.Array:
        """What is known of every element along a dim -> of those that this device has the gradient of."""
        return jnp.asarray(elements.reshape(self.tensor_size(), -1))[self.tensor_rank()]

    def sum_gradient(self, name: str, g: jax.Array) -> jax.Array:
        g = self.reduced(g, self.sum_over_tensor) if self.is_partial(name) else g
        return super().sum_gradient(name, g)

    def sum_repeats(self, name: str, g: jax.Array) -> jax.Array:
        """Sum the gradients of all copies of an element: put them in canonical order, sum, take one's own again."""
        [(dim, stored)] = self.computed_positions(name).items()
        own = self.own_part(dim, stored, padding=-1)
        real, index = along(dim, own >= 0, g), (slice(None),) * dim + (jnp.maximum(own, 0),)
        shape = [int(stored.max()) + 1 if d == dim else n for d, n in enumerate(g.shape)]
        whole = jnp.zeros(shape, g.dtype).at[index].add(g * real)
        return self.sum_over_tensor(whole)[index] * real

    def compute_axes(self) -> tuple[str, ...]:
        sharded = self.divides_evenly() and not self.repeats_products
        return tuple(dict.fromkeys((*self.data_axes, *self.model_axes))) if sharded else super().compute_axes()


def along(dim: int, elements: jax.Array, like: jax.Array) -> jax.Array:
    """Reshapes one number per element of a dim so that it broadcasts against an array."""
    return jnp.expand_dims(elements, tuple(d for d in range(like.ndim) if d != dim)).astype(like.dtype)
