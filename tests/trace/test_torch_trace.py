"""The watched torch step on four ranks: nothing changed by watching, the right counts, and mutants that show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch_program

from conformance.contract.implementation import Traffic


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    ranks_seen = torch_program.fleet()
    assert all(isinstance(rank, dict) for rank in ranks_seen), ranks_seen
    return ranks_seen


def differs(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return any(not np.array_equal(left[name], right[name], equal_nan=True) for name in right)


@pytest.mark.parametrize("step", torch_program.STEPS)
def test_watching_changes_nothing(ranks: Any, step: str) -> None:
    assert not any(differs(rank[step]["watched"], rank[step]["right"]) for rank in ranks)


def test_traffic_of_the_explicit_step_is_the_theory(ranks: Any) -> None:
    """float64: [4, 6] is 192 bytes, gathered 384, gathered twice 768; ranks agree."""
    both = ("data", "tensor")
    expected = {
        Traffic(kind="all_reduce", axes=("tensor",), phase="forward", calls=3, bytes=192 + 48 + 192, dtype="float64"),
        Traffic(kind="all_gather", axes=("data",), phase="forward", calls=2, bytes=2 * 384, dtype="float64"),
        Traffic(kind="all_gather", axes=("tensor",), phase="forward", calls=1, bytes=768, dtype="float64"),
        Traffic(kind="reduce_scatter", axes=("data",), phase="forward", calls=1, bytes=384, dtype="float64"),
        Traffic(kind="all_to_all", axes=("tensor",), phase="forward", calls=1, bytes=192, dtype="float64"),
        Traffic(kind="all_reduce", axes=("data",), phase="backward", calls=1, bytes=192, dtype="float64"),
        Traffic(kind="all_reduce", axes=both, phase="update", calls=1, bytes=8, dtype="float64"),
    }
    assert all(set(rank["explicit"]["traffic"]) == expected for rank in ranks)


def test_dtensor_shows_the_collectives_inside(ranks: Any) -> None:
    """The contraction leaves y partial over tensor; the gradient of w is partial over data until it is collected."""
    for rank in ranks:
        seen = [(site.kind, site.axes, site.phase) for site in rank["dtensor"]["sites"]]
        assert ("all_reduce", ("tensor",), "forward") in seen
        assert ("all_reduce", ("data",), "update") in seen


def test_flops_are_those_of_the_local_tensors(ranks: Any) -> None:
    """explicit: x [4, 6] @ w [6, 6] and x.T @ g; dtensor: local x [4, 3] @ w [3, 4] and x.T @ g."""
    assert [rank["explicit"]["flops"] for rank in ranks] == [2 * (2 * 4 * 6 * 6)] * 4
    assert [rank["dtensor"]["flops"] for rank in ranks] == [2 * (2 * 4 * 3 * 4)] * 4


@pytest.mark.parametrize(("step", "neutral"), [("explicit", {"repeat@1"}), ("dtensor", set())])
def test_every_mutant_shows_on_some_rank(ranks: Any, step: str, neutral: set[str]) -> None:
    mutants = ranks[0][step]["mutants"]
    results = [rank[step] for rank in ranks]
    shows = {name for name in mutants if any(differs(result["mutants"][name], result["right"]) for result in results)}
    assert len(mutants) > 20
    assert set(mutants) - shows == neutral, "only the maximum of a maximum changes nothing"


def test_mutants_obey_their_law(ranks: Any) -> None:
    """The last all-reduce of the explicit step sums each rank's own loss over all four."""
    mutants = [rank["explicit"]["mutants"] for rank in ranks]
    total = float(ranks[0]["explicit"]["right"]["loss"])
    own = [float(mutant["drop@9"]["loss"]) for mutant in mutants]
    assert sum(own) == pytest.approx(total, rel=1e-12)
    for mutant in mutants:
        assert float(mutant["repeat@9"]["loss"]) == pytest.approx(4 * total, rel=1e-12)
        assert float(mutant["sum_to_mean@9"]["loss"]) == pytest.approx(total / 4, rel=1e-12)
        assert float(mutant["sum_to_max@9"]["loss"]) == max(own)
