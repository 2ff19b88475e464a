"""Other values of a batch: enough to move a loss that anything moves, and never values that the reference refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conformance.contract.contract import Arrays
from conformance.workers.altered import altered
from conformance.workers.sensitivity import idle, unmoved

IDS = np.array([[3, 1, 2], [0, 3, 1]], dtype=np.int32)


def test_values_that_are_not_real_are_those_that_are_there() -> None:
    batch = {"ids": IDS, "mask": np.array([[1.0, 1.0, 0.0]]), "x": np.ones((2, 2), dtype=np.float32) / 3}
    for key, other in altered(batch):
        assert {name for name in batch if other[name] is not batch[name]} == {key}
        assert (other[key].dtype, other[key].shape) == (batch[key].dtype, batch[key].shape)
        assert key == "x" or set(np.unique(other[key])) <= set(np.unique(batch[key]))


def test_a_key_of_one_value_has_no_other() -> None:
    assert not list(altered({"count": np.array(3), "labels": np.zeros(4, dtype=np.int64)}))


def _refuses(batch: Arrays) -> float:
    if not np.array_equal(batch["ids"], IDS):
        raise ValueError("other ids than mine")
    return 1.0


@pytest.mark.parametrize(
    ("loss", "batch", "still"),
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
    loss: Callable[[Arrays], Any], batch: Arrays, still: tuple[str, ...]
) -> None:
    seen = _observing(loss)
    assert unmoved(seen, batch, seen(batch)) == still


def test_a_key_is_idle_where_nothing_that_is_observed_changes_with_it() -> None:
    batch = {"ids": IDS, "mask": np.array([1.0, 0.0])}
    for loss, keys in ((lambda given: given["ids"].sum(), ("mask",)), (lambda given: given["mask"] @ IDS, ("ids",))):
        seen = _observing(loss)
        assert idle(seen, batch, seen(batch)) == keys
    assert idle(_observing(_refuses), batch, {"loss": np.asarray(1.0)}) == ("mask",), "of ids nothing is known"


def _observing(loss: Callable[[Arrays], Any]) -> Callable[[Arrays], Arrays]:
    return lambda batch: {"loss": np.asarray(loss(batch))}
