"""An operation is said to round where it does, and not where it picks numbers that a narrow dtype happens to hold."""

import numpy as np
import pytest

from conformance.diagnosis.inside.reductions import narrowed
from conformance.evidence.intermediates import Intermediate

VALUES = np.random.default_rng(5).normal(size=(4, 6))


def made(values: np.ndarray, number: int, sources: tuple[int, ...] = (), **more: str) -> Intermediate:
    said = {"operation": "op", "place": "mine.py:3", "phase": "forward"} | more
    return Intermediate(number=number, axes=(), sources=sources, values={0: values}, **said)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rounding_is_recognised(dtype: str) -> None:
    rounded = VALUES.astype(dtype).astype(np.float64)
    assert list(narrowed(made(rounded, 1, (0,)), [made(VALUES, 0)])) == [dtype]


@pytest.mark.parametrize(
    "picked",
    [
        np.zeros((4, 6)),  # zeros fit into every dtype
        np.where(np.arange(24).reshape(4, 6) % 2, VALUES.astype(np.float32).astype(float), 0)[
            :1, :4
        ],  # too few to tell
        np.array([0.5, 1, 2, 4, 8, 16, 32, 64, 128]),  # all of them were there before
    ],
    ids=["zeros", "few", "picked"],
)
def test_what_is_picked_is_not_rounded(picked: np.ndarray) -> None:
    given = np.concatenate([VALUES.ravel(), 2.0 ** np.arange(-1, 8)])
    assert list(narrowed(made(picked, 1, (0,)), [made(given, 0)])) == []


def test_what_was_there_before_is_not_rounded() -> None:
    """A moving average that begins as parameters in float32 do is those parameters, for a step."""
    x = VALUES.astype(np.float32).astype(np.float64)
    parts = [made(0.75 * x * (1 + 1e-12), 1, (0,)), made(0.25 * x, 2, (0,))]
    assert list(narrowed(made(x, 3, (1, 2)), parts)) == ["float32"], "by itself it looks as if it were"
    assert list(narrowed(made(x, 3, (1, 2)), parts, [made(x, 0)])) == []


def test_what_an_unseen_input_makes_is_not_rounded() -> None:
    """0.75 x + 0.25 x where x is an input: it is in float64, and its numbers are those that x has begun with."""
    x = VALUES.astype(np.float32).astype(np.float64)
    part = made(0.75 * x * (1 + 1e-12), 0)
    assert list(narrowed(made(x, 1, (0,), dtype="float64"), [part])) == []
    assert list(narrowed(made(x, 1, (0,), dtype="float32"), [part])) == ["float32"], "a conversion"
    assert list(narrowed(made(x, 1, (0,), dtype="float64", operation="reduce_precision"), [part])) == ["float32"]
