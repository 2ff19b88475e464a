"""Messages between stages: all tensors that cross a cut, as one floating-point vector and one integer vector.

Stages hand over tensors of different number, shape and kind (tuples, skip tensors, whole numbers); a message between
any two ranks must have one shape in one program. So all messages are as long as the longest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from suites.training.jax.state import Named

Shapes = Mapping[str, tuple[int, ...]]


def length(shapes: Shapes) -> int:
    return sum(map(math.prod, shapes.values()))


def flat(values: Named, size: int, dtype: str) -> jax.Array:
    """Tensors in the order of their names, then zeros up to `size`."""
    parts = [values[name].reshape(-1).astype(dtype) for name in sorted(values)]
    joined = jnp.concatenate(parts) if parts else jnp.zeros(0, dtype)
    return jnp.pad(joined, (0, size - joined.size))


def named(vector: jax.Array, shapes: Shapes) -> Named:
    """The inverse of `flat`."""
    tensors: Named = {}
    start = 0
    for name in sorted(shapes):
        size = math.prod(shapes[name])
        tensors[name] = vector[start : start + size].reshape(shapes[name])
        start += size
    return tensors


@dataclass(frozen=True, kw_only=True)
class Wire:
    """What crosses each cut, and how long that makes every message.

    activations   stage -> name -> shape of a floating-point tensor that enters it
    passthrough   name -> shape of a whole-number tensor that every message to a later stage carries along
    dtype         of the floating-point numbers
    """

    activations: tuple[Shapes, ...]
    passthrough: Shapes
    dtype: str

    @property
    def floats(self) -> int:
        return max(map(length, self.activations))

    @property
    def wholes(self) -> int:
        return length(self.passthrough)
