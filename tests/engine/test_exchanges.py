"""What a collective has done with what it was given, from its operands and results alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.exchanges import broken_exchange
from conformance.evidence.intermediates import Exchange, Intermediates

MESH = Mesh.parse("data=3,tensor=3")
SUM = {"reduction": "sum"}
RING = {"pairs": ((0, 1), (1, 2), (2, 0))}

Blocks = dict[int, np.ndarray]


def _blocks(shape: tuple[int, ...] = (6, 3), whole: bool = False, seed: int = 0) -> Blocks:
    """Of every rank other values; counts, if they are to be whole numbers."""
    drawn = np.random.default_rng(seed)
    return {rank: drawn.integers(1, 90, shape) * 1.0 if whole else drawn.normal(size=shape) for rank in range(9)}


def _groups(axis: str = "tensor") -> Mapping[int, tuple[list[int], int]]:
    """rank -> its group along an axis, and its place there."""
    return {rank: (group, place) for group in MESH.groups(axis) for place, rank in enumerate(group)}


def _sums(given: Blocks, axis: str = "tensor") -> Blocks:
    return {rank: np.sum([given[other] for other in group], axis=0) for rank, (group, _) in _groups(axis).items()}


def _parts(of: Blocks, further: int = 0) -> Blocks:
    """Each rank's third of what it has."""
    return {rank: np.split(of[rank], 3)[(place + further) % 3] for rank, (_, place) in _groups().items()}


def _gathered(given: Blocks, first: int = 0, axis: str = "tensor") -> Blocks:
    around = {rank: group[first:] + group[:first] for rank, (group, _) in _groups(axis).items()}
    return {rank: np.concatenate([given[other] for other in group]) for rank, group in around.items()}


def _exchanged(given: Blocks, further: int = 0) -> Blocks:
    return {
        rank: np.concatenate([np.split(given[other], 3)[(place + further) % 3] for other in group])
        for rank, (group, place) in _groups().items()
    }


def _sent(given: Blocks, by: int) -> Blocks:
    return {rank: given[group[(place - by) % 3]] for rank, (group, place) in _groups().items()}


def _rounded(given: Blocks) -> Blocks:
    return {rank: x.astype(ml_dtypes.bfloat16).astype(np.float64) for rank, x in given.items()}


def _said(kind: str, given: Blocks, got: Blocks, *, earlier: Exchange | None = None, **more: Any) -> list[str]:
    more = {"axes": ("tensor",), "reduction": None} | more
    exchange = Exchange(kind=kind, place="a/b/model.py:7", phase="forward", given=given, got=got, **more)
    ran = (exchange,) if earlier is None else (earlier, exchange)
    causes = list(broken_exchange(Intermediates(values=(), exchanges=ran), MESH))
    assert all(cause.cause.endswith("model.py:7") for cause in causes)
    assert [cause.axis for cause in causes] in ([], list(more["axes"]))
    return [cause.cause for cause in causes]


@pytest.mark.parametrize("whole", [False, True])
def test_of_a_collective_that_does_what_it_says_nothing_is_said(whole: bool) -> None:
    given = _blocks(whole=whole)
    assert _said("all_reduce", given, _sums(given), **SUM) == []
    assert _said("all_reduce", given, _sums(_sums(given), "data"), axes=("data", "tensor"), **SUM) == []
    assert _said("reduce_scatter", given, _parts(_sums(given)), **SUM) == []
    assert _said("all_gather", given, _gathered(given)) == []
    assert _said("all_to_all", given, _exchanged(given)) == []
    assert _said("permute", given, _sent(given, 1), **RING) == []


@pytest.mark.parametrize("whole", [False, True])
def test_what_a_reduction_has_done_instead(whole: bool) -> None:
    given = _blocks(whole=whole)
    sums = _sums(given)
    largest = {rank: np.max([given[other] for other in group], axis=0) for rank, (group, _) in _groups().items()}
    for got, words in (
        (given, "reduction missing: every rank keeps its own operand"),
        ({rank: x / 3 for rank, x in sums.items()}, "a mean where a sum is meant"),
        ({rank: x * 3 for rank, x in sums.items()}, "summed twice"),
        (largest, "the largest operand"),
        (_sums(given, "data"), "reduced over data instead of tensor"),
    ):
        assert words in _said("all_reduce", given, got, **SUM)[0]
        assert words in _said("reduce_scatter", given, _parts(got), **SUM)[0]
    assert "shards permuted" in _said("reduce_scatter", given, _parts(sums, 2), **SUM)[0]


def test_a_sum_of_rounded_operands() -> None:
    given = _blocks()
    assert "bfloat16" in _said("all_reduce", given, _sums(_rounded(given)), **SUM)[0]


def test_both_axes_of_a_sum_are_named() -> None:
    given = _blocks()
    both = {"axes": ("data", "tensor"), **SUM}
    assert len(_said("all_reduce", given, given, **both)) == 2
    assert _said("all_reduce", given, _sums(given), **both) == [], "over one of them alone is no usual mistake"


@pytest.mark.parametrize("whole", [False, True])
def test_what_comes_from_elsewhere(whole: bool) -> None:
    given = _blocks(whole=whole)
    alone = {rank: np.concatenate([x] * 3) for rank, x in given.items()}
    assert "its own operand alone" in _said("all_gather", given, alone)[0]
    assert "shards permuted" in _said("all_gather", given, _gathered(given, 2))[0]
    assert "runs over data instead of tensor" in _said("all_gather", given, _gathered(given, axis="data"))[0]
    assert "not combined" in _said("all_to_all", given, given)[0]
    assert "shards permuted" in _said("all_to_all", given, _exchanged(given, 1))[0]
    assert "not combined" in _said("permute", given, given, **RING)[0]
    assert "shards permuted" in _said("permute", given, _sent(given, 2), **RING)[0]


def test_messages_along_a_line() -> None:
    """Without a way round, the last rank gets zeros where messages travel the other way."""
    given = _blocks()
    back = {
        rank: given[group[place + 1]] if place < 2 else 0 * given[rank] for rank, (group, place) in _groups().items()
    }
    assert "travels the other way" in _said("permute", given, back, pairs=((0, 1), (1, 2)))[0]


def test_an_operand_that_was_sent_before() -> None:
    before, given = _blocks(seed=1), _blocks()
    first = Exchange(
        kind="all_reduce", reduction="sum", axes=("tensor",), place="model.py:3", phase="forward",
        given=before, got=_sums(before),
    )  # fmt: skip
    (said,) = _said("all_reduce", given, _sums(before), earlier=first, **SUM)
    assert said.startswith("stale: what was given to all_reduce at model.py:3")


def test_what_is_no_usual_mistake_or_is_not_known_on_all_ranks_is_left_alone() -> None:
    given = _blocks()
    assert _said("all_reduce", given, _blocks(seed=5), **SUM) == []
    assert _said("all_reduce", {0: given[0]}, {0: given[0]}, **SUM) == []
    assert _said("all_reduce", given, given, reduction="product") == []
