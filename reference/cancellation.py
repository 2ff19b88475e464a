"""Batches of a linear model whose gradient is a small difference of large numbers and needs every bit of them.

A sum of gradients over devices that is done in bfloat16 then goes wrong in every element; in float32 it is exact.

B: rows  I, O: input and output features
"""

from __future__ import annotations

import numpy as np

from reference.architecture import Architecture, shapes
from reference.parameters import Arrays, draw, dyadic_numbers, generator

_WIDEST = 31  # hidden features: outputs then stay below 64, so that their quarters are whole numbers of 8 bits


def cancelling_batches(
    model: Architecture, rows: int, length: int, seed: int, steps: int, dyadic: bool = True
) -> list[Arrays]:
    """One batch per step. `length` is unused; `dyadic` can only be true.

    Law, at the parameters `draw(shapes(model), seed, dyadic=True)`, so at the first step: four rows count, the first
    and the last one and the two in the middle, so that every half, third, quarter, sixth or eighth of the rows has at
    most two of them. In units of 1/4 the gradient of a weight is a sum of four terms, in the order of the rows: an odd
    number below 16; a multiple of 16 below 128; two multiples of 64 between 1024 and 2048, of opposite signs. It is odd
    and above 256, so that it is no bfloat16 number; the same goes for a bias, in units of 1. Inputs, outputs, errors
    and the sums over any such part of the rows are bfloat16 numbers; loss and gradients are exact in float32 in every
    order, the division too where `outputs` is a power of two.
    Raises ValueError for another kind of model, more than 31 features, or rows that are odd or fewer than four.
    """
    if model.kind != "linear" or model.hidden > _WIDEST or rows < 4 or rows % 2 or not dyadic:
        raise ValueError(
            f"Cancelling batches are dyadic and made for a linear model of at most {_WIDEST} features on an even "
            f"number of at least 4 rows, not for kind '{model.kind}', {model.hidden} features and {rows} rows."
        )
    return [_batch(model, rows, seed, generator(seed, f"cancelling {step}")) for step in range(steps)]


def _batch(model: Architecture, rows: int, seed: int, rng: np.random.Generator) -> Arrays:
    counted = [0, rows // 2 - 1, rows // 2, rows - 1]
    inputs_BI = rng.choice([-1.0, 1.0], (rows, model.hidden))
    inputs_BI[counted] = _inputs(rng, model.hidden)
    targets_BO = dyadic_numbers(rng, (rows, model.outputs))
    parameters = draw(shapes(model), seed, dyadic=True)
    outputs_BO = inputs_BI @ parameters["linear.weight"] + parameters.get("linear.bias", 0.0)
    targets_BO[counted] = outputs_BO[counted] - _errors(rng, model.outputs)
    mask_B = np.zeros(rows)
    mask_B[counted] = 1
    return {"inputs": inputs_BI, "targets": targets_BO, "mask": mask_B}


def _inputs(rng: np.random.Generator, hidden: int) -> np.ndarray:
    """Of the four rows that count; the last two are opposite."""
    first_I, second_I, third_I = rng.choice([-1.0, 1.0], (3, hidden))
    return np.stack([first_I / 4, second_I, 2 * third_I, -2 * third_I])


def _errors(rng: np.random.Generator, outputs: int) -> np.ndarray:
    """Output minus target of the four rows that count; the last two have one sign and differ by at least 64."""
    signs_O = rng.choice([-1.0, 1.0], (3, outputs))
    third_O = rng.integers(25, 32, outputs)
    fourth_O = rng.integers(16, third_O - 7)
    odd_O, even_O = 2 * rng.integers(0, 8, outputs) + 1, 4 * rng.integers(1, 8, outputs)
    return np.stack([signs_O[0] * odd_O, signs_O[1] * even_O, signs_O[2] * 8 * third_O, signs_O[2] * 8 * fourth_O])
