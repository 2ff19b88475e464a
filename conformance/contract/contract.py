"""The contract: what must hold, whoever implements it and on whatever mesh."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from conformance.contract.placements import Placements, read_placements

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The dtypes of a mixed-precision policy (Micikevicius et al., Mixed Precision Training, section 3).

    A float64 case is about logic: there everything is float64 and the policy is not applied. Optimizer slots and loss
    statistics are never narrower than float32.

    parameters  in which the parameters lie between steps; None: float32
    compute     in which the model computes, and in which parameters meet activations; None: the dtype of the case
    gradients   in which gradients are kept and added up over slices of a batch; None: float32
    reduction   in which gradients are summed over devices; None: that of the gradients
    reduced_over  devices over which the reference imagines that sum, at most, where a reduction is declared; its
                yardsticks hold those of fewer devices too
    master      of a second copy of the parameters, which the optimizer updates and the parameters are rounded from;
                None: no such copy, the optimizer updates the parameters themselves
    statistics  of norms, of the rows of a softmax, of logarithms of their sums, of losses and their sums
    """

    parameters: str | None = None
    compute: str | None = None
    gradients: str | None = None
    reduction: str | None = None
    reduced_over: int = 8
    master: str | None = None
    statistics: str = "float32"

    def dtype(self, role: str, case: str) -> str:
        """The dtype of a role (the name of a field, the master copy left out) in a case of some dtype."""
        if case == "float64":
            return case
        if role == "reduction" and self.reduction is None:
            role = "gradients"
        usual = case if role == "compute" else "float32"
        return getattr(self, role) or usual


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The training recipe: everything about a step that is not the model.

    The batch is split along dim 0 into `accumulation` slices; the loss is the sum over all valid elements of all
    slices, divided by their number (one large batch, not a mean of means). Clipping is by global norm to `clip_norm`.
    AdamW follows Loshchilov and Hutter, Decoupled Weight Decay Regularization, algorithm 2, with bias correction. Muon
    (Jordan et al., 2024) orthogonalises the momentum of every matrix but embedding and head, and is SGD for the rest.
    LAMB (You et al., 2020, algorithm 2) scales the step of AdamW by |p| / |step|, norms of one whole tensor each.
    `epsilon` is of the order of the gradient: a far smaller one makes the first update the sign of noise.
    """

    optimizer: str = "sgd"  # "sgd" (with momentum), "adamw", "muon" or "lamb"; "": nothing is trained
    learning_rate: float = 0.125
    momentum: float = 0.5
    betas: tuple[float, float] = (0.875, 0.96875)
    epsilon: float = 1e-2
    weight_decay: float = 0.0625
    decays: str = "all"  # or "weights": biases and scales (of norms) are a group of their own, which is not decayed
    clip_norm: float | None = None
    accumulation: int = 1
    shares: tuple[int, ...] = ()  # relative sizes of the slices of a batch where they are not equal
    recompute: str = "none"  # or "layer": each decoder layer again in the backward pass; "attention": its core alone
    spill: int | None = None  # activations of at least so many bytes wait in host memory for the backward pass
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
    exact_dtypes  the dtypes that are wide enough for that
    relations   the relations of the check `relations` that hold here
    held        the precision of the recipe is a promise: a program that sums or takes statistics in less breaks it
    varied      the program can be run with another recipe, so that a feature of it can be left out
    replicated_axes  mesh axes that divide nothing on purpose; any other axis of a case must divide something
    still       observables of the reference by which nothing can be shown, on purpose: a gradient that is zero
                everywhere in every step, a loss that the batch does not move
    replayed    observable -> batch key: decisions of the oracle that every run in a narrower dtype is given with the
                batch, since where two alternatives are almost alike rounding decides, and all that follows hangs on it
    formulations   further models that are equal to `model` in exact arithmetic and rounded elsewhere, as programs in
                common use compute it: how far their runs stray from the oracle counts as rounding too
    roles       mesh axis -> its role, where the axis has a name that does not say (`conformance.contract.roles`)
    keys        batch key -> what it holds, in words
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
    layouts: Mapping[str, Placements] = field(default_factory=dict)
    exact: bool = False
    exact_dtypes: tuple[str, ...] = ("float64", "float32")
    relations: tuple[str, ...] = ()
    held: bool = True
    varied: bool = True
    replicated_axes: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    replayed: Mapping[str, str] = field(default_factory=dict)
    formulations: tuple[Any, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        layouts = {name: read_placements(placements) for name, placements in self.layouts.items()}
        object.__setattr__(self, "layouts", layouts)

    @property
    def suite(self) -> str:
        return self.name.partition("/")[0]

    @cached_property
    def batch_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Batch key -> shape, the same in every batch."""
        return {key: value.shape for key, value in self.example.items()}

    @cached_property
    def example(self) -> Arrays:
        """The first batch of seed 0."""
        return self.batches(0, 1)[0]

    @property
    def features(self) -> tuple[str, ...]:
        """What the recipe has that a plain one has not; any of it can be left out without changing the model."""
        if not self.varied:
            return ()
        plain = Recipe()
        return tuple(
            feature for feature, fields in FEATURES.items() if any(_differ(self.recipe, plain, f) for f in fields)
        )

    def without(self, feature: str) -> Contract:
        """The same contract without one of its features, under a name that says so: `tensor/layer~accumulation`.

        The relation of the same name would bring it back, so it does not hold there.
        """
        usual = {field: getattr(Recipe(), field) for field in FEATURES[feature]}
        relations = tuple(relation for relation in self.relations if relation != feature)
        recipe = replace(self.recipe, **usual)
        return replace(self, name=f"{self.name}~{feature}", recipe=recipe, relations=relations)


# Features of a recipe -> its fields.
FEATURES = {
    "accumulation": ("accumulation", "shares"),
    "microbatches": ("microbatches",),
    "recompute": ("recompute",),
    "clipping": ("clip_norm",),
    "decay groups": ("decays",),
    "precision": ("precision",),
}


def _differ(recipe: Recipe, other: Recipe, name: str) -> bool:
    return bool(getattr(recipe, name) != getattr(other, name))
