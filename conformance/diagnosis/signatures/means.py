"""Signature of a mean of means: every rank divides by its own number of valid elements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.evidence.gather import selector
from conformance.records.results import Cause

MEAN_OF_MEANS = "mean of means: each divides by its own valid elements"
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
