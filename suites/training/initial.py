"""How large the initial values are that an implementation draws itself. Framework-neutral."""

from __future__ import annotations

import math

from reference.architecture import is_router_bias

ROUTER_BIAS = 0.02  # of other biases: it joins scores, which are small, and must not make the choice alone


def fan_in(name: str, shape: tuple[int, ...]) -> int:
    """Terms in the sum that a weight takes part in; an embedding counts as the head that it may be tied to.

    A convolution is [height, width, in, out] and sums over all dims but the last, stacked experts are
    [experts, in, out] and each sums over its own inputs.
    """
    if len(shape) == 4:
        return math.prod(shape[:3])
    if len(shape) == 3:
        return shape[1]
    return shape[1] if name.endswith("embedding.weight") else shape[0]


def bias_scale(name: str) -> float:
    """What a bias is multiplied by after it was drawn."""
    return ROUTER_BIAS if is_router_bias(name) else 1.0
