"""A changed batch: other values that are as valid, for which even a function of unordered rows answers otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.workers.altered import changed


@pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 5), (3, 4), (2, 3, 4)])
def test_sums_over_all_rows_change(shape: tuple[int, ...]) -> None:
    value = np.random.default_rng(0).normal(size=shape)
    after = changed(value)
    assert after.shape == shape
    assert np.isin(after, value).all(), "no value that was not there"
    assert not np.isclose((after**2).sum(), (value**2).sum())


def test_masks_and_ids_stay_masks_and_ids() -> None:
    ones, ids = np.ones((2, 3)), np.array([[0, 0, 1], [1, 2, 2]])
    assert np.array_equal(changed(ones), np.zeros((2, 3)))
    assert set(changed(ids).ravel()) <= {0, 1, 2}
    assert np.array_equal(np.sort(changed(np.array([[7, 3], [1, 5]]))), [[3, 7], [3, 7]]), "choices of a row stay apart"


def test_constants_and_numbers_change_their_sign() -> None:
    assert np.array_equal(changed(np.full(3, 2.5)), np.full(3, -2.5))
    assert changed(np.array(2.5)) == -2.5


@pytest.mark.parametrize("seed", range(6))
def test_means_of_thousands_move_by_more_than_a_narrow_dtype_rounds(seed: int) -> None:
    value = np.random.default_rng(seed).normal(size=2590)
    for mean in (np.mean, lambda x: np.mean(x**2), lambda x: np.log(np.mean(np.exp(x)))):
        assert abs(mean(changed(value)) - mean(value)) > 0.1
