"""`shardproof scale` says in one sentence why it does not compile, without the path of a class."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.cases.usage import UsageError
from conformance.cli.scale import scale
from conformance.planner.answers import Case
from conformance.runner.last_words import last_words


@pytest.mark.parametrize("mesh", ["foo=64", "fsdp=8,tensr=8"])
def test_an_axis_that_no_program_knows_is_refused(mesh: str, tmp_path: Path) -> None:
    """It would divide nothing, on devices that all compute the same."""
    with pytest.raises(UsageError, match=r"Unknown mesh axis '(foo|tensr)'.*fsdp.*\.$"):
        scale(["405b"], mesh=mesh, chip=None, framework="jax", output=tmp_path, as_json=True)


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ("Traceback\nconformance.contract.implementation.Unsupported: fsdp comes first.\n\n", ": fsdp comes first."),
        ("jaxlib._jax.XlaRuntimeError: INTERNAL: no\n", " (status 1): XlaRuntimeError: INTERNAL: no"),
        ("ValueError: too few\n", " (status 1): ValueError: too few"),
        ("", " (status 1): no message"),
    ],
)
def test_the_last_words_of_a_process(stderr: str, said: str) -> None:
    assert last_words(stderr, 1) == said


def test_one_device_is_one() -> None:
    assert str(Case(model="7B", devices=1, memory="16GB")) == "7B on 1 device of 16GB"
    assert str(Case(model="7B", devices=8, memory="16GB")) == "7B on 8 devices of 16GB"
