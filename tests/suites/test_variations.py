"""Contracts that are drawn can show something of every parameter."""

from __future__ import annotations

import pytest

from conformance.cases.suite import suites
from conformance.cases.usage import UsageError


def test_one_token_shows_nothing_of_queries_and_keys() -> None:
    """A softmax over one key is 1 whatever the scores are: their gradients are zero in every right program."""
    with pytest.raises(UsageError, match="one key to attend to"):
        suites()["data"].contract("data/ragged~length=1")
    assert suites()["tensor"].contract("tensor/mlp~length=1").model.num_heads == 0
