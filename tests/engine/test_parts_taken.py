"""Parts that ranks take for themselves, and elements that are moved: which they should be is told by one device."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.evidence.intermediates import Intermediate, Intermediates
from conformance.records.results import Cause
from tests.engine.values_inside import at

RNG = np.random.default_rng(0)
MESH = Mesh.parse("tensor=4")
RANKS = range(MESH.devices)
OUTPUT = "outputs/y"


def _causes(wide: list[Intermediate], twin: list[Intermediate]) -> list[Cause]:
    here, alone = (Intermediates(values=tuple(each), observed={OUTPUT: (each[-1].number,)}) for each in (wide, twin))
    return list(first_divergence(here, alone, MESH, OUTPUT))


def _heads(taken: tuple[int, ...], of_queries: tuple[int, ...] = (0, 1, 2, 3), wrong: float = 0.0) -> list[Cause]:
    """Two heads of keys for four of queries: a rank takes one, and its scores are those of its head of queries."""
    weight, queries = RNG.normal(size=(3, 4)), RNG.normal(size=(5, 4))
    parts = np.split(weight, 2, axis=1)
    repeated = np.repeat(np.stack(parts), 2, axis=0)  # [4 heads, 3, 2]
    scores = np.stack([np.outer(queries[:, h], repeated[h].sum(0)) for h in RANKS])
    own = {rank: parts[part] for rank, part in enumerate(taken)}
    made = {rank: np.outer(queries[:, of_queries[rank]], own[rank].sum(0))[None] + wrong for rank in RANKS}
    wide = [
        at(0, "clone", dict.fromkeys(RANKS, weight)),
        at(1, "clone", {rank: queries[:, [of_queries[rank]]] for rank in RANKS}),
        at(2, "slice", own, 0),
        at(3, "repeat", {rank: block[None] for rank, block in own.items()}, 2),
        at(4, "bmm", made, 1, 3),
    ]
    twin = [at(0, "clone", {0: weight}), at(1, "clone", {0: queries}), at(3, "repeat", {0: repeated}, 0)]
    return _causes(wide, [*twin, at(4, "bmm", {0: scores}, 1, 3)])


@pytest.mark.parametrize("taken", [(0, 1, 0, 1), (1, 1, 0, 0)])
def test_the_parts_that_belong_to_the_ranks_are_named(taken: tuple[int, ...]) -> None:
    cause = _heads(taken)[0]
    words = f"ranks of tensor take parts {list(taken)} of dim 1, where [0, 0, 1, 1] belong to them"
    assert (cause.cause, cause.axis) == (f"{words}, at model.py:2", "tensor")


def test_a_part_that_is_repeated_before_anything_is_made_of_it_lies_on_the_wrong_ranks() -> None:
    """On one device another line repeats it: the block is known by its numbers."""
    keys, queries = RNG.normal(size=(5, 2, 3)), RNG.normal(size=(5, 8, 3))
    repeated = np.repeat(keys, 4, axis=1)
    own = {rank: keys[:, [rank % 2]] for rank in RANKS}
    mine = {rank: queries[:, 2 * rank : 2 * rank + 2] for rank in RANKS}
    twice = {rank: np.repeat(block, 2, axis=1) for rank, block in own.items()}
    wide = [
        at(0, "clone", dict.fromkeys(RANKS, keys)),
        at(1, "clone", mine),
        at(2, "dynamic_slice", own, 0),
        at(3, "reshape", twice, 2),
        at(4, "sin", {rank: np.sin(mine[rank] * block) for rank, block in twice.items()}, 1, 3),
    ]
    twin = [at(0, "clone", {0: keys}), at(1, "clone", {0: queries}), at(9, "reshape", {0: repeated}, 0)]
    best = _causes(wide, [*twin, at(10, "sin", {0: np.sin(queries * repeated)}, 1, 9)])[0]
    assert best.cause == "shards permuted: ranks of tensor hold those of [0, 2, 0, 2], at model.py:3"
    assert (best.axis, best.place) == ("tensor", False)


def test_nothing_is_said_of_parts_that_are_shared_rightly() -> None:
    assert _heads((0, 0, 1, 1)) == []


def test_ranks_in_an_order_of_their_own_take_no_wrong_parts() -> None:
    """Queries are divided in the same order; something else is wrong."""
    said = _heads((0, 1, 0, 1), of_queries=(0, 2, 1, 3), wrong=0.5)
    assert not [cause for cause in said if "belong" in cause.cause]


def _turned(weight_turned: bool, wrong: float = 0.0) -> list[Cause]:
    """Heads are interleaved before a product with a weight, which may have its rows in the same order."""
    x, weight = RNG.normal(size=(5, 6)), RNG.normal(size=(6, 3))
    order = [0, 3, 1, 4, 2, 5]
    turned = x[:, order]
    made = turned @ (weight[order] if weight_turned else weight) + wrong
    wide = [
        at(0, "cat", dict.fromkeys(RANKS, x)),
        at(1, "transpose", dict.fromkeys(RANKS, turned), 0),
        at(2, "clone", dict.fromkeys(RANKS, weight[order] if weight_turned else weight)),
        at(3, "mm", dict.fromkeys(RANKS, made), 1, 2),
    ]
    twin = [at(0, "cat", {0: x}), at(2, "clone", {0: weight}), at(3, "mm", {0: x @ weight}, 0, 2)]
    return _causes(wide, twin)


def test_another_order_than_what_takes_it_wants_is_why() -> None:
    cause = _turned(weight_turned=False)[0]
    assert cause.cause == "right elements in the wrong places: transpose at model.py:1, which mm at model.py:3 takes"
    assert cause.confidence > 0.8


def test_an_order_of_its_own_that_both_operands_have_is_not_said_to_be_why() -> None:
    assert _turned(weight_turned=True) == []
    assert all(cause.confidence < 0.8 or cause.place for cause in _turned(weight_turned=True, wrong=0.5))
