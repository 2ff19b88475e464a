"""Tolerance: how far a conforming program may stray from the oracle, derived from rounding, never guessed.

The yardstick of a row block is what rounding alone does to the single-device reference there: the largest deviation
from the float64 oracle over runs in the same dtype on minutely perturbed inputs (the noise of a `ReferenceResult`), and
at least one unit in the last place of the block's largest value. In float64 these runs are in stochastic arithmetic, so
that every order of summation and the oracle's own error count. The *excess error* of a candidate is its own largest
deviation in the block, divided by the yardstick. It is compared with BOUNDS, which are calibrated on conforming runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}

# Largest excess error that a conforming program may show, per dtype of the case.
BOUNDS = {"float64": 6.0, "float32": 4.5, "bfloat16": 3.5, "float16": 3.5}

MOST_BLOCKS = 16
FEWEST_ELEMENTS = 32  # in a block: below that the yardstick of a block would itself be mostly chance


def bounded_as(dtype: str) -> str:
    """The dtype whose bound and epsilon hold: an 8-bit dtype, which no case has, is held as bfloat16."""
    return dtype if dtype in BOUNDS else "bfloat16"


@dataclass(frozen=True, kw_only=True)
class Excess:
    """The worst row block of one tensor: where it is, its error, its yardstick and their ratio."""

    blocks: int
    rows: tuple[int, int]
    error: float
    yardstick: float

    @property
    def ratio(self) -> float:
        return float(_ratio(np.array([self.error]), np.array([self.yardstick]))[0])


def block_starts(shape: tuple[int, ...]) -> np.ndarray:
    """First rows of the blocks into which dim 0 is cut: at most MOST_BLOCKS, each of FEWEST_ELEMENTS or more."""
    if not shape or shape[0] == 0:
        return np.array([0])
    row = max(int(np.prod(shape[1:])), 1)
    rows = max(-(-shape[0] // MOST_BLOCKS), -(-FEWEST_ELEMENTS // row))
    return np.arange(0, shape[0], rows)


def yardsticks(magnitude: np.ndarray, noise: np.ndarray, epsilon: float) -> np.ndarray:
    """Per row block: the noise of the reference there, at least one ulp of the block's largest value."""
    value: np.ndarray = np.maximum(_block_max(noise), epsilon * _block_max(magnitude))
    return value


def of_square(value: np.ndarray, noise: np.ndarray, bound: float) -> np.ndarray:
    """The noise of a mean of squares, so that its root is held to `bound` yardsticks, as what is squared is.

    Where the root r is moved by d, `bound` times as much moves the square by 2 r bound d + (bound d)^2. As long as d is
    small beside r that is `bound` times the noise; where all there is is rounding, the second term is the larger one.
    """
    root = np.sqrt(np.maximum(value, 0.0))
    moved = np.maximum(np.sqrt(np.maximum(value, 0.0) + noise) - root, root - np.sqrt(np.maximum(value - noise, 0.0)))
    wider: np.ndarray = np.maximum(noise, 2 * root * moved + bound * moved**2)
    return wider


def excess(error: np.ndarray, magnitude: np.ndarray, noise: np.ndarray, epsilon: float) -> Excess:
    """The row block whose error is largest in units of its yardstick; `magnitude` is the size of what is stored."""
    starts = block_starts(error.shape)
    errors, scales = _block_max(error), yardsticks(magnitude, noise, epsilon)
    worst = int(np.argmax(_ratio(errors, scales)))
    stop = starts[worst + 1] if worst + 1 < len(starts) else (error.shape[0] if error.shape else 1)
    return Excess(
        blocks=len(starts),
        rows=(int(starts[worst]), int(stop)),
        error=float(errors[worst]),
        yardstick=float(scales[worst]),
    )


def allowed(magnitude: np.ndarray, noise: np.ndarray, epsilon: float, bound: float) -> np.ndarray:
    """Elementwise bound on the error, constant over each row block."""
    starts, shape = block_starts(noise.shape), noise.shape
    per_block = bound * yardsticks(magnitude, noise, epsilon)
    if not shape:
        value: np.ndarray = per_block[0]
        return value
    counts = np.diff(np.append(starts, shape[0]))
    return np.broadcast_to(np.repeat(per_block, counts).reshape(-1, *[1] * (noise.ndim - 1)), shape)


def _block_max(values: np.ndarray) -> np.ndarray:
    if not values.size:
        return np.zeros(1)
    rows = values.reshape(values.shape[0], -1).max(axis=1) if values.ndim else values.reshape(1)
    return np.maximum.reduceat(rows, block_starts(values.shape))


def _ratio(errors: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """error / yardstick, where 0 / 0 is 0 and anything else over 0 is infinite: a true zero must be zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(errors == 0, 0.0, np.divide(errors, scales))
