"""Signature of coupled weight decay: it is in the moments of the gradient where the recipe keeps it out, or not in it.

Law: after the first step the first moment of Adam is (1 - beta) times the clipped gradient, and the momentum of SGD is
the clipped gradient; with coupled decay the gradient has the decay times the parameter more.
Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from conformance.contract.contract import Recipe
from conformance.diagnosis.signatures.scale import NORM, near
from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.records.results import Cause

COUPLED = "weight decay is added to the gradient"
DECOUPLED = "weight decay is decoupled instead of being added to the gradient"
IN_GRADIENT = f"{COUPLED} before its norm is taken"
SURE = 0.95
FEWEST = 4  # elements: fewer are a sum of multiples of any two tensors


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """The mean of gradients that the optimizer keeps of a parameter, in the first step, and what it is made of.

    share     of the gradient that goes into it
    clipping  by which gradients are multiplied before
    """

    slot: DivergedTensor
    share: float
    clipping: float
    gradient: np.ndarray
    parameter: np.ndarray
    decay: float

    @property
    def decoupled(self) -> np.ndarray:
        return self.share * self.clipping * self.gradient

    @property
    def coupled(self) -> np.ndarray:
        return self.decoupled + self.share * self.decay * self.parameter


def coupled(suspect: DivergedTensor) -> Iterator[Cause]:
    """In the first step, of an update or of what the optimizer keeps: the parameter is the initial one."""
    kind, _, rest = suspect.tensor.partition("/")
    name = rest.partition("/")[2] if kind == "optimizer" else rest
    moment = _moment(suspect, name) if suspect.step == 0 and kind in ("updates", "optimizer") else None
    if moment is None:
        return
    slot, update = moment.slot, _of_first_step(suspect, f"updates/{name}")
    moved = update is not None and update.comparison.excess.ratio <= suspect.case_run.bound
    basis = f"'{slot.tensor}' is the part of the gradient {{}} decay times the parameter that the optimizer keeps of it"
    if slot.agrees(slot.expected, moment.decoupled) and _has_decay(moment):
        words = f"{COUPLED}{_beside(moment, update)}"
        yield Cause(cause=words, axis=None, confidence=SURE, basis=basis.format("plus"))
    elif moved and slot.agrees(slot.expected, moment.coupled) and slot.explains(slot.value, moment.decoupled):
        words = f"{basis.format('without')}; the update is right"
        yield Cause(cause=DECOUPLED, axis=None, confidence=SURE, basis=words)


def decay_in_gradient(suspect: DivergedTensor) -> Iterator[Cause]:
    """The gradient of the first step itself has it, as one of a loss with a term for the size of parameters has."""
    kind, _, name = suspect.tensor.partition("/")
    parameter, decay = suspect.case_run.reference.initial.get(name), suspect.case_run.contract.recipe.weight_decay
    if kind != "gradients" or suspect.step != 0 or parameter is None or parameter.size < FEWEST:
        return
    if parameter.shape == suspect.expected.shape and suspect.explains(
        suspect.value, suspect.expected + decay * parameter
    ):
        basis = "it is the right gradient plus decay times the parameter"
        yield Cause(cause=IN_GRADIENT, axis=None, confidence=SURE, basis=basis)


def _moment(suspect: DivergedTensor, name: str) -> _Moment | None:
    """None where the optimizer keeps no such mean, or where decay does not show."""
    recipe, oracle = suspect.case_run.contract.recipe, suspect.case_run.reference.oracle[0]
    gradient, parameter = oracle.get(f"gradients/{name}"), suspect.case_run.reference.initial.get(name)
    slots = {"momentum": 1.0, "first_moment": 1 - recipe.betas[0]}
    found = ((_of_first_step(suspect, f"optimizer/{slot}/{name}"), share) for slot, share in slots.items())
    slot, share = next(((slot, share) for slot, share in found if slot is not None), (None, 0.0))
    if slot is None or gradient is None or parameter is None or gradient.shape != parameter.shape:
        return None
    shown = recipe.weight_decay and parameter.any() and parameter.size >= FEWEST and np.isfinite(slot.value).all()
    return (
        None
        if not shown
        else _Moment(
            slot=slot,
            share=share,
            clipping=_clipping(recipe, oracle),
            gradient=gradient,
            parameter=parameter,
            decay=recipe.weight_decay,
        )
    )


def _of_first_step(suspect: DivergedTensor, tensor: str) -> DivergedTensor | None:
    case_run = suspect.case_run
    found = (other for other in case_run.comparisons if (other.step, other.tensor) == (0, tensor))
    return next((DivergedTensor(comparison=comparison, case_run=case_run) for comparison in found), None)


def _clipping(recipe: Recipe, oracle: Mapping[str, np.ndarray]) -> float:
    norm = float(oracle.get(NORM, 0.0))
    return min(1.0, recipe.clip_norm / norm) if recipe.clip_norm is not None and norm else 1.0


def _has_decay(moment: _Moment) -> bool:
    """It was added to the clipped gradient, or before that was clipped, by another norm then."""
    slot = moment.slot
    terms = np.stack([moment.gradient.ravel(), moment.parameter.ravel()], axis=1)
    (gradient, parameter), _, rank, _ = np.linalg.lstsq(terms, slot.value.ravel(), rcond=1e-9)
    sized = near(parameter, moment.share * moment.decay) and near(gradient, moment.share * moment.clipping)
    before = near(parameter, gradient * moment.decay) and 0 < gradient <= moment.share * 1.001
    law = gradient * moment.gradient + parameter * moment.parameter
    return bool(rank == 2 and (sized or before) and slot.explains(slot.value, law))


def _beside(moment: _Moment, update: DivergedTensor | None) -> str:
    """What the update says of decoupled decay, which Adam shows: its step is known from what it keeps."""
    case_run, name = moment.slot.case_run, moment.slot.tensor.removeprefix("optimizer/first_moment/")
    recipe, second = case_run.contract.recipe, case_run.steps[0].get(f"optimizer/second_moment/{name}")
    if recipe.optimizer not in ("adamw", "lamb") or second is None or update is None:
        return ""
    root = np.sqrt(np.maximum(case_run.whole(second), 0) / (1 - recipe.betas[1]))
    direction = moment.slot.value / moment.share / (root + recipe.epsilon)
    for decay, words in ((0.0, " instead of being decoupled"), (moment.decay, ", and taken from the parameter too")):
        step = direction + decay * moment.parameter
        if recipe.optimizer == "lamb":
            step = step * np.linalg.norm(moment.parameter) / (np.linalg.norm(step) or 1.0)
        if update.agrees(update.value, -recipe.learning_rate * step):
            return words
    return ""
