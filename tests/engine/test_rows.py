"""Rows in another order, as experts get them: the search goes on behind them."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.diagnosis.inside.rows import of_rows
from conformance.evidence.intermediates import Intermediates
from conformance.records.results import Cause
from tests.engine.values_inside import at

RNG = np.random.default_rng(0)
MESH = Mesh.parse("expert=2")
OUTPUT = "outputs/y"


def _said(returned_as_sent: bool, expert: float = 0.0) -> list[Cause]:
    """Tokens go to two experts, whose outputs come back and are multiplied by the gates of the tokens.

    expert   what is added to the outputs of all experts
    """
    tokens, gates = RNG.normal(size=(8, 4)), RNG.uniform(0.1, 1.0, size=(8, 1))
    owner = np.array([0, 1, 1, 0, 1, 0, 0, 1])
    order = {rank: np.flatnonzero(owner == rank)[::-1] for rank in (0, 1)}
    outputs = np.tanh(2 * tokens)
    sent = {rank: np.concatenate([tokens[order[rank]], np.zeros((2, 4))]) for rank in (0, 1)}
    said = {rank: np.tanh(2 * block) + expert for rank, block in sent.items()}
    whole = outputs + expert
    back = whole if returned_as_sent else whole[[1, 0, 3, 2, 5, 4, 7, 6]]
    halves = {0: slice(0, 4), 1: slice(4, 8)}
    wide = [
        at(0, "clone", {rank: tokens[half] for rank, half in halves.items()}),
        at(1, "softmax", {rank: gates[half] for rank, half in halves.items()}, 0),
        at(2, "all_to_all", sent, 0),
        at(3, "tanh", said, 2),
        at(4, "index_copy", {rank: back[half] for rank, half in halves.items()}, 3),
        at(5, "mul", {rank: (back * gates)[half] for rank, half in halves.items()}, 1, 4),
    ]
    turned = RNG.permutation(8)
    twin = [
        at(0, "clone", {0: tokens}),
        at(1, "softmax", {0: gates}, 0),
        at(2, "index", {0: tokens[turned]}, 0),
        at(3, "tanh", {0: outputs[turned]}, 2),
        at(4, "index_copy", {0: outputs}, 3),
        at(5, "mul", {0: outputs * gates}, 1, 4),
    ]
    here, alone = (Intermediates(values=tuple(each), observed={OUTPUT: (5,)}) for each in (wide, twin))
    return list(first_divergence(here, alone, MESH, OUTPUT))


def test_outputs_that_come_back_to_other_tokens_are_named() -> None:
    causes = _said(returned_as_sent=False)
    words = "right rows, of other places than those that they are combined with: operand 1 of mul at model.py:5"
    assert causes[0].cause == f"{words}, which index_copy at model.py:4 makes"
    assert not causes[0].place
    assert causes[1].cause.startswith("parts from what one device has: mul at model.py:5")


def test_rows_in_an_order_of_their_own_are_no_mistake() -> None:
    assert _said(returned_as_sent=True) == []


def test_experts_that_compute_something_else_are_where_it_goes_wrong() -> None:
    said = _said(returned_as_sent=True, expert=0.5)
    assert all(cause.place for cause in said)
    assert "tanh at model.py:3" in said[0].cause
    assert "order" not in said[0].cause.split(";")[0]


ROWS = RNG.normal(size=(6, 4))


@pytest.mark.parametrize(
    ("rows", "known"),
    [
        (ROWS[[3, 1, 1]], True),
        (np.concatenate([np.zeros((2, 4)), ROWS[[5]] * (1 + 1e-13)]), True),
        (ROWS[:2] + np.eye(2, 4) * 1e-6, False),
        (np.zeros((3, 4)), False),
        (ROWS[:, :2], False),
    ],
)
def test_rows_are_known_whatever_their_order(rows: np.ndarray, known: bool) -> None:
    whole = at(0, "mm", {0: ROWS})
    assert bool(of_rows(at(1, "mm", {0: rows}), [(whole,)])) is known
