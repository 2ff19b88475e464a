"""Rows that are multiplied with other rows than on one device."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.compared import Compared
from conformance.diagnosis.inside.pairs import of_pairs
from conformance.evidence.intermediates import Intermediates
from tests.engine.values_inside import at

RNG = np.random.default_rng(0)
MESH = Mesh.parse("sequence=2")
OUTPUT = "outputs/y"
QUERIES, KEYS = RNG.normal(size=(4, 6, 5)), RNG.normal(size=(2, 6, 5))  # (head, token, size)
RIGHT, OTHER = (0, 0, 1, 1), (0, 1, 0, 1)  # of each query head, its key head


def _scores(groups: tuple[int, ...], queries: np.ndarray) -> np.ndarray:
    return np.einsum("hqe,hke->hqk", queries, KEYS[list(groups)])


def _said(groups: tuple[int, ...], scale: float = 1.0, turned: bool = False) -> list[str]:
    """Query heads of a rank's own tokens with key heads; one device has all tokens."""
    halves = {0: QUERIES[:, :3], 1: QUERIES[:, 3:]}
    keys = KEYS.swapaxes(-1, -2) if turned else KEYS
    made = {rank: scale * _scores(groups, queries) for rank, queries in halves.items()}
    wide = [
        at(0, "sin", halves),
        at(1, "cos", {0: keys, 1: keys}),
        at(2, "bmm", made, 0, 1),
        at(3, "exp", {rank: np.exp(x) for rank, x in made.items()}, 2),
    ]
    whole = _scores(RIGHT, QUERIES)
    twin = [at(0, "sin", {0: QUERIES}), at(1, "cos", {0: KEYS}), at(5, "dot_general", {0: whole}, 0, 1)]
    twin.append(at(6, "exp", {0: np.exp(whole)}, 5))
    here = Intermediates(values=tuple(wide), observed={OUTPUT: (3,)})
    alone = Intermediates(values=tuple(twin), observed={OUTPUT: (6,)})
    compared = Compared(here, alone, MESH, OUTPUT)
    return [cause.cause for cause in of_pairs(compared, compared.values[2])]


@pytest.mark.parametrize("turned", [False, True])
def test_key_heads_of_another_group_are_named(turned: bool) -> None:
    words = "right rows are multiplied with other rows than on one device: bmm at model.py:2"
    assert _said(OTHER, turned=turned) == [f"{words}, of what sin at model.py:0 and cos at model.py:1 make"]


def test_nothing_is_said_of_the_right_ones_nor_of_products_of_something_else() -> None:
    assert _said(RIGHT) == []
    assert _said(OTHER, scale=1.5) == []
