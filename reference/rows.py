"""Functions of the rows of one array: what is computed of them, what is read of the results, and exact inputs.

V: rows, N: features, M: lanes (every function is the same for each lane)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.architecture import Shapes

Arrays = dict[str, np.ndarray]

FUNCTIONS = ("sum", "mean", "max", "min", "same", "transpose", "roll", "shift", "reverse", "row")
OPERAND = "operand"
_LARGE = 2**24  # whole numbers beyond it are not all numbers of float32


@dataclass(frozen=True, kw_only=True)
class RowFunction:
    """y = function(x), and the loss sum(weights * y); x is the parameter, so that it has a gradient and is trained.

    function  sum, mean, max, min: [V, N, M] -> [N, M] over the rows; same: x itself; transpose: [N, V, M];
              roll: row v is that before it, round about; shift: the same with zeros before the first; reverse: last
              row first; row: the row of number `root`
    readers   how many read the whole of y, each with weights of its own; 0: every element of y is read once
    whole     whole numbers beyond float32 besides: y of them is observed too, and has no gradient
    """

    kind: str = "rows"
    function: str = "sum"
    rows: int = 24
    features: int = 3
    lanes: int = 12
    readers: int = 0
    root: int = 0
    whole: bool = False

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise ValueError(f"Unknown function of rows '{self.function}': {', '.join(FUNCTIONS)}.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of x."""
        return self.rows, self.features, self.lanes

    @property
    def result(self) -> tuple[int, ...]:
        """Shape of y."""
        if self.function in ("sum", "mean", "max", "min", "row"):
            return self.features, self.lanes
        return (self.features, self.rows, self.lanes) if self.function == "transpose" else self.shape

    @property
    def step(self) -> int:
        """What inputs are multiples of: a mean over all rows, or over some of them, is a whole number then."""
        return self.rows if self.function == "mean" else 1


def shapes(model: RowFunction) -> Shapes:
    return {OPERAND: model.shape}


def draw(model: RowFunction, seed: int) -> Arrays:
    """x: small whole numbers, of which every sum over rows is a number of eight bits.

    Where the largest or smallest is asked for, no two in a column are alike, since it is differentiated; the largest is
    below zero and the smallest above, so that a zero that takes part shows.
    """
    rng = np.random.default_rng([seed, 11])
    if model.function in ("max", "min"):
        columns = [rng.permutation(model.rows) + 1.0 for _ in range(model.features * model.lanes)]
        return {OPERAND: np.stack(columns, axis=1).reshape(model.shape) * (1 if model.function == "min" else -1)}
    return {OPERAND: _small(rng, model.shape, model.step)}


def batches(model: RowFunction, seed: int, steps: int) -> list[Arrays]:
    """`weights` of every reader, and `counts` [V, N, M] where whole numbers are asked for."""
    rng = np.random.default_rng([seed, 12])
    return [_batch(model, rng) for _ in range(steps)]


def _batch(model: RowFunction, rng: np.random.Generator) -> Arrays:
    readers = (model.readers,) if model.readers else ()
    batch = {"weights": _small(rng, (*readers, *model.result), model.step)}
    if model.whole:
        batch["counts"] = rng.integers(_LARGE, 2 * _LARGE, model.shape, dtype=np.int32)
    return batch


def _small(rng: np.random.Generator, shape: tuple[int, ...], step: int) -> np.ndarray:
    """Whole numbers from -3 to 3 but 0, times `step`."""
    return step * rng.choice([-3, -2, -1, 1, 2, 3], size=shape).astype(float)
