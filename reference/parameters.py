"""Canonical parameters: dotted name -> numpy array, drawn once, the same for every framework and mesh.

No parameter is drawn as zero or one. A zero bias, a unit scale or a symmetric weight hides a fault that adds a bias
twice, forgets a scale or transposes a shard.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from reference.architecture import is_router_bias

Arrays = dict[str, np.ndarray]

_ROUTER_BIAS = 0.02  # of other biases: it joins scores, which are small, and must not make the choice alone


def draw(shapes: Mapping[str, tuple[int, ...]], seed: int, dyadic: bool = False) -> Arrays:
    """Draw every parameter from a generator of its own, so that no draw depends on which other names there are.

    Law: float64 arrays whose values float32 holds exactly. Weights are skewed, of mean 0 and deviation 1/sqrt(fan in);
    biases lie in +-[0.1, 0.5], those of a router in a fiftieth of that; scales lie in [0.5, 1.5]. `dyadic` draws k/4
    with 1 <= |k| <= 4 instead: sums of products of such numbers are exact in float32 in every order, as long as they
    stay below 2**20.
    """
    return {name: _draw(name, tuple(shape), seed, dyadic) for name, shape in shapes.items()}


def generator(seed: int, name: str) -> np.random.Generator:
    """A generator that depends on the seed and the name, and on nothing else."""
    return np.random.default_rng([seed, *name.encode()])


def dyadic_numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random k/4 with k in {-4, .., -1, 1, .., 4}."""
    value: np.ndarray = rng.integers(1, 5, shape) * rng.choice([-0.25, 0.25], shape)
    return value


def to_float32_values(values: np.ndarray) -> np.ndarray:
    """Round to the nearest float32, kept as float64."""
    return values.astype(np.float32).astype(np.float64)


def check(shapes: Mapping[str, tuple[int, ...]], parameters: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError unless `parameters` has just the names and shapes of `shapes`."""
    if set(shapes) != set(parameters):
        missing, unknown = sorted(set(shapes) - set(parameters)), sorted(set(parameters) - set(shapes))
        raise ValueError(f"These are not the parameters of this model: missing {missing}, unknown {unknown}.")
    for name, shape in shapes.items():
        if tuple(shape) != parameters[name].shape:
            raise ValueError(
                f"Parameter '{name}' has shape {parameters[name].shape}, but the model needs {tuple(shape)}."
            )


def _draw(name: str, shape: tuple[int, ...], seed: int, dyadic: bool) -> np.ndarray:
    rng = generator(seed, name)
    if dyadic:
        return dyadic_numbers(rng, shape)
    if name.endswith(".scale"):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith(".bias"):
        values = rng.uniform(0.1, 0.5, shape) * rng.choice([-1.0, 1.0], shape)
        if is_router_bias(name):
            values *= _ROUTER_BIAS
    else:
        values = _skewed(rng, shape) / math.sqrt(_fan_in(name, shape))
    return to_float32_values(values)


def _skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Mean 0, deviation 1, bounded, not symmetric around 0: a flipped sign does not look like another draw."""
    low, mode, high = -1.5, -0.5, 2.0  # a triangle of mean 0 and variance 13 / 24
    return rng.triangular(low, mode, high, shape) / math.sqrt(13 / 24)


def _fan_in(name: str, shape: tuple[int, ...]) -> int:
    """Terms in the sum that a weight takes part in; an embedding [vocabulary, hidden] counts as if it were tied.

    The weight of a convolution is [height, width, in, out], and it sums over all dims but the last; stacked experts are
    [experts, in, out], and each sums over its own inputs.
    """
    if len(shape) == 4:
        return math.prod(shape[:3])
    if len(shape) == 3:
        return shape[1]
    return shape[1] if name.endswith("embedding.weight") else shape[0]
