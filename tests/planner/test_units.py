"""Sizes of models and of memory: a number with a unit; what could be two things is refused, and says both."""

from __future__ import annotations

import pytest

from conformance.cases.usage import UsageError
from conformance.planner import units


@pytest.mark.parametrize(
    ("text", "number"), [("175B", 175e9), ("7e9", 7e9), ("6.7b", 6.7e9), ("350M", 350e6), ("7000000000", 7e9)]
)
def test_sizes_of_models(text: str, number: float) -> None:
    assert units.parameters(text) == number


@pytest.mark.parametrize("text", ["175", "175G", "0B", "-7B", "seven", "", "nanB"])
def test_unclear_sizes_of_models_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        units.parameters(text)


@pytest.mark.parametrize(("text", "number"), [("80GiB", 80 * 2**30), ("40GB", 40e9), ("1.5MiB", 1.5 * 2**20)])
def test_sizes_of_memory(text: str, number: float) -> None:
    assert units.size(text) == number


@pytest.mark.parametrize("text", ["80", "80G", "80Gib/s", "0GB", "-1GB", "infGB"])
def test_unclear_sizes_of_memory_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        units.size(text)


def test_what_could_be_two_things_says_both() -> None:
    with pytest.raises(UsageError, match="175 parameters or 175 billions"):
        units.parameters("175")
    with pytest.raises(UsageError, match="write 80GiB for powers of 1024, or 80GB for powers of 1000"):
        units.size("80")
