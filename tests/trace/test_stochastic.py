"""Stochastic arithmetic: what is exact stays exact, sums err as sums one after the other do, and members differ."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conformance.evidence.tolerance import EPSILON
from conformance.trace.stochastic import Stochastic

MEMBERS = 64


def ensemble(x: np.ndarray) -> np.ndarray:
    return np.broadcast_to(x, (MEMBERS, *x.shape))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_was_rounded_moves_by_a_unit_and_what_is_exact_stays(dtype: str) -> None:
    x = np.array([1 / 3, -1 / 3, 1e300 if dtype == "float64" else 1e30, 12.0, 0.5, 0.0, np.inf, -np.inf], dtype)
    moved = Stochastic(0).rounded(ensemble(x))
    assert moved.dtype == x.dtype
    units = np.abs(moved[:, :3] - x[:3]) / np.spacing(np.abs(x[:3]))
    assert set(np.unique(units)) == {0.0, 1.0}
    assert 0.3 < (units == 1).mean() < 0.7
    assert np.array_equal(moved[:, 3:], ensemble(x)[:, 3:])
    assert np.isnan(Stochastic(0).rounded(np.array([np.nan], dtype))).all()


@pytest.mark.parametrize("terms", [10, 1_000, 10_000])
def test_a_sum_errs_as_the_square_root_of_its_terms(terms: int) -> None:
    x = np.random.default_rng(terms).uniform(0.5, 1.5, terms)
    errors = np.array([float(total) - math.fsum(x) for total in Stochastic(1).total(ensemble(x), [1])])
    relative = np.sqrt(np.mean(errors**2)) / math.fsum(x) / EPSILON["float64"]
    assert 0.05 * math.sqrt(terms) < relative < math.sqrt(terms)


def test_sums_and_products_of_whole_numbers_are_exact() -> None:
    a, b = (np.random.default_rng(n).integers(-8, 9, shape).astype(float) for n, shape in ((0, (5, 7)), (1, (7, 3))))
    arithmetic = Stochastic(2)
    assert np.array_equal(arithmetic.product(ensemble(a), ensemble(b)), ensemble(a @ b))
    assert np.array_equal(arithmetic.product(ensemble(a[:1]), ensemble(b)), ensemble(a[:1] @ b))
    assert np.array_equal(arithmetic.total(ensemble(a), [2, 1]), ensemble(a.sum()))
    assert np.array_equal(arithmetic.running(ensemble(a), 2, reverse=True), ensemble(a[:, ::-1].cumsum(1)[:, ::-1]))


@pytest.mark.parametrize("shape", [(1, 500), (4, 500)])
def test_products_err_and_every_member_in_its_own_way(shape: tuple[int, int]) -> None:
    a, b = (np.random.default_rng(n).normal(size=size) for n, size in ((3, shape), (4, (shape[1], 3))))
    product = Stochastic(5).product(ensemble(a), ensemble(b))
    true = (a.astype(np.longdouble) @ b.astype(np.longdouble)).astype(float)
    assert len(np.unique(product[:, 0, 0])) > MEMBERS // 8
    assert np.abs(product - true).max() < 500 * EPSILON["float64"] * (np.abs(a) @ np.abs(b)).max()


def test_the_same_seed_draws_the_same() -> None:
    x = np.random.default_rng(6).normal(size=(4, 100))
    first, again, other = (Stochastic(seed).total(ensemble(x), [2]) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_sum_of_two_is_one_of_the_two_numbers_around_it(dtype: str) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=(1, 3000)).astype(dtype) * scale for scale in (1, -1e3))
    a, b = a.astype(dtype), b.astype(dtype)
    exact = a.astype(np.longdouble) + b.astype(np.longdouble)
    got = Stochastic(0).added(a, b, a + b)
    below, above = np.nextafter(a + b, np.array(-np.inf, dtype)), np.nextafter(a + b, np.array(np.inf, dtype))
    moved = got != a + b
    assert 0.2 < moved.mean() < 0.8
    assert np.array_equal(got[moved], np.where(exact > a + b, above, below)[moved])
    assert (np.abs(got - exact) <= np.abs(above - below)).all()


def test_a_sum_of_two_that_is_exact_stays() -> None:
    a, b = np.array([[1.0, 0.5, -3.0, 0.0]]), np.array([[2.0, 2.0**-40, 3.0, 1e-300]])
    for seed in range(20):
        assert np.array_equal(Stochastic(seed).added(a, b, a + b), a + b)


def test_a_term_that_is_lost_shows_in_some_members() -> None:
    """The logarithm of a sum of exponentials beyond a thousand: all members lost the same part of it."""
    a, b = np.full((64, 1), 2375.0), np.full((64, 1), 2.6e-13)
    assert set(np.ravel(Stochastic(0).added(a, b, a + b) - 2375.0)) == {0.0, np.spacing(2375.0)}


def test_a_single_number_keeps_its_shape() -> None:
    a, b = np.array(1.0), np.array(1e-17)
    assert Stochastic(0).added(a, b, a + b).shape == ()
