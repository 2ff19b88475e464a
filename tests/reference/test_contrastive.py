"""The contrastive loss row by row in plain numpy, and what it promises of rows that are not valid."""

import numpy as np
import pytest

from tests.reference.table import EXAMPLES, FRAMEWORKS, observe, relative_error

EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)
EXAMPLE = EXAMPLES["contrastive"]


def by_hand(left: np.ndarray, right: np.ndarray, mask: np.ndarray, scale: float) -> np.ndarray:
    """[B]: of every valid row, the mean surprise at its right half among all right ones and the other way round."""
    losses = np.zeros(len(mask))
    for row in np.flatnonzero(mask):
        for half, others in ((left, right), (right, left)):
            logits = np.array([scale * half[row] @ others[other] for other in np.flatnonzero(mask)])
            losses[row] += (np.log(np.exp(logits).sum()) - scale * half[row] @ others[row]) / 2
    return losses


@EVERY_FRAMEWORK
def test_losses_by_hand(framework):
    batch = EXAMPLE.batches()[0]
    observed = observe(framework, EXAMPLE, batch)
    left, right, mask = observed["outputs/left"], observed["outputs/right"], batch["mask"]
    assert 1 < mask.sum() < len(mask)
    losses = by_hand(left, right, mask, np.exp(EXAMPLE.parameters()["logit_scale.scale"][0]))
    assert relative_error(observed["outputs/row_losses"], losses) < 1e-13
    assert relative_error(observed["loss"], losses.sum() / mask.sum()) < 1e-13
    for half in (left, right):
        assert np.all(np.abs(np.linalg.norm(half, axis=1) - 1) < 1e-3)


@EVERY_FRAMEWORK
def test_rows_that_are_not_valid_are_nobodys_negatives(framework):
    """Other numbers in them move no loss and no gradient; without any valid row all of them are zero."""
    batch = EXAMPLE.batches()[0]
    other = batch["inputs"] + (batch["mask"] == 0)[:, None, None]
    before, after = (observe(framework, EXAMPLE, batch | change) for change in ({}, {"inputs": other}))
    none = observe(framework, EXAMPLE, batch | {"mask": 0 * batch["mask"]})
    for tensor in ("loss", "outputs/row_losses", *(f"gradients/{name}" for name in EXAMPLE.shapes)):
        assert relative_error(after[tensor], before[tensor]) < 1e-13, tensor
        assert np.all(none[tensor] == 0), tensor
