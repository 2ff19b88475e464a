"""Other values of a batch: enough to move a loss that anything moves, and never values that the reference refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conformance.contract.contract import Arrays
from conformance.workers.altered import altered
from conformance.workers.references import References

IDS = np.array([[3, 1, 2], [0, 3, 1]], dtype=np.int32)


def test_values_that_are_not_real_are_those_that_are_there() -> None:
    batch = {"ids": IDS, "mask": np.array([[1.0, 1.0, 0.0]]), "x": np.ones((2, 2), dtype=np.float32) / 3}
    for key, other in altered(batch):
        assert {name for name in batch if other[name] is not batch[name]} == {key}
        assert (other[key].dtype, other[key].shape) == (batch[key].dtype, batch[key].shape)
        assert key == "x" or set(np.unique(other[key])) <= set(np.unique(batch[key]))


def test_a_key_of_one_value_has_no_other() -> None:
    assert not list(altered({"count": np.array(3), "labels": np.zeros(4, dtype=np.int64)}))


class _Trainer:
    def __init__(self, loss: Callable[[Arrays], Any]) -> None:
        self.loss = loss

    def place(self, parameters: Arrays) -> None:
        return None

    def step(self, state: None, batch: Arrays) -> tuple[None, dict[str, Any]]:
        return state, {"loss": self.loss(batch)}


def _refuses(batch: Arrays) -> float:
    if not np.array_equal(batch["ids"], IDS):
        raise ValueError("other ids than mine")
    return 1.0


@pytest.mark.parametrize(
    ("loss", "batch", "unmoved"),
    [
        (lambda batch: batch["ids"].mean(), {"ids": IDS}, ()),  # whatever their order
        (lambda batch: 1.0, {"ids": IDS}, ("loss",)),
        (lambda batch: 1.0, {"ids": IDS, "count": np.array(3)}, ()),  # who knows what another count would do
        (_refuses, {"ids": IDS}, ()),
        (lambda batch: 1.0, {}, ()),
    ],
    ids=["a mean", "a constant", "a key that cannot be altered", "a reference that refuses", "no batch"],
)
def test_a_loss_is_unmoved_only_where_every_key_was_tried(
    loss: Callable[[Arrays], Any], batch: Arrays, unmoved: tuple[str, ...]
) -> None:
    references = References("torch", np.asarray, lambda *_: (None, None), lambda step: step)
    oracle = {"loss": np.asarray(loss(batch))}
    assert references.unmoved(_Trainer(loss), {}, batch, oracle) == unmoved
