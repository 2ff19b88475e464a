"""The contract: what must hold, whoever implements it and on whatever mesh."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The dtypes of a mixed-precision policy; `None` means 'the dtype of the case'.

    Master parameters, optimizer state and loss statistics are never narrower than float32.
    """

    compute: str | None = None
    reduction: str | None = None
    statistics: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The training recipe: everything about a step that is not the model.

    The batch is split along dim 0 into `accumulation` slices; the loss is the sum over all valid elements of all
    slices, divided by their number (one large batch, not a mean of means). Clipping is by global norm to `clip_norm`.
    AdamW follows Loshchilov and Hutter, Decoupled Weight Decay Regularization, algorithm 2, with bias correction.
    `epsilon` is of the order of the gradient: a far smaller one makes the first update the sign of noise.
    """

    optimizer: str = "sgd"  # "sgd" (with momentum) or "adamw"
    learning_rate: float = 0.125
    momentum: float = 0.5
    betas: tuple[float, float] = (0.875, 0.96875)
    epsilon: float = 1e-2
    weight_decay: float = 0.0625
    clip_norm: float | None = None
    accumulation: int = 1
    microbatches: int = 1
    steps: int = 3
    precision: Precision = field(default_factory=Precision)


@dataclass(frozen=True, kw_only=True)
class Contract:
    """A reference, its shapes, parameters, batches, recipe, and the observables that count.

    name        suite/contract, for example `tensor/mlp`
    summary     what must hold, one sentence
    model       hyperparameters of the model (a frozen dataclass), read by references and implementations
    shapes      canonical parameter name -> shape, in forward order
    parameters  seed -> canonical parameters, float64 arrays whose values float32 can hold
    batches     (seed, steps) -> one batch per step: name -> array, all rows along dim 0
    references  framework -> 'module:Class' of the single-device training step
    semantics   loss term -> its definition in words
    layouts     observable -> placements that the contract asks for (an output left sharded, say)
    exact       every order of summation is exact for these inputs, so the tolerance is zero
    """

    name: str
    summary: str
    model: Any
    shapes: Mapping[str, tuple[int, ...]]
    parameters: Callable[[int], Arrays]
    batches: Callable[[int, int], list[Arrays]]
    references: Mapping[str, str]
    recipe: Recipe = field(default_factory=Recipe)
    semantics: Mapping[str, str] = field(default_factory=dict)
    layouts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    exact: bool = False

    @property
    def suite(self) -> str:
        return self.name.partition("/")[0]
