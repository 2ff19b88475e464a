"""How numbers are written for people."""

from __future__ import annotations

import math

import pytest

from conformance.records import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.0, "0"), (0.004, "<.01"), (0.306, "0.31"), (1.0, "1.00"), (12.3, "12"), (4.2e5, "4e5"),
     (math.inf, "inf"), (math.nan, "NaN")],
)  # fmt: skip
def test_ratio(value: float | None, text: str) -> None:
    assert formatting.ratio(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00 s"),
        (1.42e-5, "14.2 us"),
        (0.0031, "3.1 ms"),
        (0.4, "0.40 s"),
        (83.0, "83.0 s"),
        (200.4, "3 min 20 s"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert formatting.seconds(value) == text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((), ""), ((3,), "3"), ((0, 1), "0, 1"), ((1, 3, 5), "1, 3, 5"), (range(8), "0-7"), ((0, 1, 2, 5), "0-2, 5")],
)
def test_spans(numbers: tuple[int, ...], text: str) -> None:
    assert formatting.spans(numbers) == text
