"""Balance: nothing is lost, and the slowest place is as fast as it can be, against every possibility."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.planner.balance import Balance, bound, contiguous, greedy, in_order

costs = st.lists(st.floats(0.01, 100), min_size=1, max_size=8)


@given(costs, st.integers(1, 8))
def test_every_part_has_one_place(parts: list[float], places: int) -> None:
    every = [in_order(parts, places), greedy(parts, places, as_many=False), greedy(parts, places, as_many=True)]
    for balance in (*every, contiguous(parts, places)):
        assert sorted(part for place in balance.places for part in place) == list(range(len(parts)))
        assert len(balance.places) == places
        assert max(balance.loads) >= bound(parts, places) * (1 - 1e-9)


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=8), st.integers(1, 4))
def test_runs_have_the_smallest_possible_maximum(parts: list[float], places: int) -> None:
    places = min(places, len(parts))
    best = min(
        max(sum(parts[a:b]) for a, b in zip((0, *cuts), (*cuts, len(parts)), strict=True))
        for cuts in combinations(range(1, len(parts)), places - 1)
    )
    balance = contiguous(parts, places)
    assert max(balance.loads) == pytest.approx(best)
    assert all(list(place) == list(range(place[0], place[-1] + 1)) for place in balance.places)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(1, 3))
def test_greedy_is_within_a_third_of_the_best(parts: list[float], places: int) -> None:
    """Graham's bound: 4/3 - 1/(3 places) of the best."""
    best = min(
        max(sum(cost for cost, at in zip(parts, where, strict=True) if at == place) for place in range(places))
        for where in product(range(places), repeat=len(parts))
    )
    assert max(greedy(parts, places, as_many=False).loads) <= (4 / 3 - 1 / (3 * places)) * best * (1 + 1e-9)


def test_a_skewed_router_is_evened_out() -> None:
    loads = [100.0, 90.0, 80.0, 70.0, 4.0, 3.0, 2.0, 1.0]
    before, after = in_order(loads, 4), greedy(loads, 4, as_many=True)
    assert before.imbalance > 2
    assert after.imbalance < 1.2
    assert {len(place) for place in after.places} == {2}


def test_imbalance_is_one_where_all_is_even() -> None:
    assert Balance(costs=(1.0, 1.0), places=((0,), (1,))).imbalance == 1.0
