"""A changed batch: other values that are as valid, for which even a function of unordered rows answers otherwise."""

from __future__ import annotations

import ml_dtypes  # noqa: F401 - teaches numpy the name bfloat16
import numpy as np
import pytest

from conformance.workers.execute import changed


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


def test_in_a_narrow_dtype_a_mean_of_thousands_changes_too() -> None:
    value = np.random.default_rng(0).normal(1.0, 1.0, size=2590)
    means = [float(np.float32(rows.mean()).astype(np.dtype("bfloat16"))) for rows in (value, changed(value))]
    assert means[0] != means[1]
