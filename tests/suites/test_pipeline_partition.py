"""Stages are balanced as well as can be, and stages of every model cover it once."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suites.pipeline.contracts import CONTRACTS
from suites.pipeline.partition import balanced, greedy, stage_costs
from suites.pipeline.schedule import ScheduleError
from suites.pipeline.stage_units import stage_units

COSTS = st.lists(st.integers(0, 50), min_size=1, max_size=9)


@settings(deadline=None)
@given(costs=COSTS, stages=st.integers(1, 9))
def test_no_cuts_are_better_than_the_balanced_ones(costs: list[int], stages: int):
    if stages > len(costs):
        with pytest.raises(ScheduleError, match=f"{len(costs)} stage units cannot be cut into {stages} stages"):
            balanced(costs, stages)
        return
    every = [(0, *inner, len(costs)) for inner in combinations(range(1, len(costs)), stages - 1)]
    best = min(max(stage_costs(costs, cuts)) for cuts in every)
    for cuts in (balanced(costs, stages), greedy(costs, stages)):
        assert cuts in every
        assert max(stage_costs(costs, cuts)) >= best
    assert max(stage_costs(costs, balanced(costs, stages))) == best


def test_greedy_is_not_always_the_best():
    costs = [4, 2, 6, 1, 1]
    assert max(stage_costs(costs, balanced(costs, 3))) < max(stage_costs(costs, greedy(costs, 3)))


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_stage_units_hold_every_parameter(contract):
    units = stage_units(contract.model, 7)
    names = [name for unit in units for name in unit.parameters]
    assert set(names) == set(contract.shapes)
    twice = {name for name in names if names.count(name) > 1}
    assert twice == ({"embedding.weight"} if contract.model.tied and contract.model.vocabulary else set())
    assert all(unit.cost > 0 for unit in units)
    assert all(unit.name != other.name for unit, other in pairwise(units))
