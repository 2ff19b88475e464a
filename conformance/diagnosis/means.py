"""Signature of a mean of means: every rank divides by its own number of valid elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from conformance.diagnosis.blocks import CLOSE
from conformance.diagnosis.suspect import DivergedTensor
from conformance.evidence.gather import selector
from conformance.evidence.intermediates import Intermediates
from conformance.records.results import Cause

MEAN_OF_MEANS = "mean of means: each divides by its own valid elements"
FAR = 1e-6
LOSSES = "outputs/token_losses"  # of every token, zero where it is not valid


def mean_of_means(suspect: DivergedTensor) -> Iterator[Cause]:
    """The loss is the mean, over the positions along an axis, of sums of losses divided by local numbers of tokens."""
    losses = suspect.case_run.reference.oracle[suspect.step].get(LOSSES)
    held = suspect.case_run.steps[suspect.step].get(LOSSES)
    if suspect.tensor != "loss" or losses is None or held is None:
        return
    contract, seed = suspect.case_run.contract, suspect.case_run.case.seed
    mask = contract.batches(seed, suspect.step + 1)[suspect.step].get("mask")
    if mask is None or mask.shape != losses.shape:
        return
    parts = {rank: selector(block.index) for block in held.blocks for rank in block.ranks}
    for axis in suspect.axes:
        means = [_mean(losses, mask, places) for places in _places(suspect, axis, parts)]
        known = [mean for mean in means if mean is not None]
        for mean in (sum(known) / len(means), sum(known) / max(len(known), 1)):
            if suspect.explains(suspect.value, np.asarray(mean)):
                basis = f"it is the mean, over the positions along {axis}, of the mean loss of their own valid tokens"
                yield Cause(cause=MEAN_OF_MEANS, axis=axis, confidence=0.97, axis_confidence=0.8, basis=basis)
                break


def mean_of_parts(wide: Intermediates, twin: Intermediates, losses: Sequence[float], axis: str) -> Iterator[Cause]:
    """The loss of the step is the mean of the losses that one device has on the rows of each position alone.

    Only where that is not the right loss, which it is where all parts count equally. Nor where the right loss is their
    sum: then nothing divides by its own elements, and a factor is lost.
    """
    loss, right = _loss(wide), _loss(twin)
    if not losses or loss is None or right is None:
        return
    total, mean = sum(losses), sum(losses) / len(losses)
    if abs(right - total) <= CLOSE * abs(total):
        return
    if abs(loss - mean) <= CLOSE * abs(mean) and abs(right - mean) > FAR * abs(right):
        basis = f"the loss is the mean of what one device has on each of {len(losses)} parts of the rows"
        yield Cause(cause=MEAN_OF_MEANS, axis=axis, confidence=0.95, basis=basis)


def _loss(step: Intermediates) -> float | None:
    """The last value that the loss is made of, on the first rank that has it."""
    numbers = step.observed.get("loss", ())
    held = next((value.values for value in step.values if numbers and value.number == numbers[-1]), {})
    return float(next(iter(held.values())).ravel()[0]) if held else None


def _places(suspect: DivergedTensor, axis: str, parts: dict[int, Any]) -> Iterator[list[Any]]:
    """For each position along an axis, where the elements lie that ranks there hold."""
    for position in range(suspect.mesh.size(axis)):
        yield [where for rank, where in parts.items() if suspect.mesh.coordinates(rank)[axis] == position]


def _mean(losses: np.ndarray, mask: np.ndarray, places: list[Any]) -> float | None:
    held = np.zeros(losses.shape, dtype=bool)
    for where in places:
        held[where] = True
    valid = float(mask[held].sum())
    return float(losses[held].sum()) / valid if valid else None
