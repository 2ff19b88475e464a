"""What a pass must not be: a program that divides nothing, copies left out, a reference that is dead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import conformance
from tests.strangers import hollow_jax, hollow_torch
from tests.strangers.answers import answers

RNG = np.random.default_rng(0)
PARAMETERS, BATCH = {"w": RNG.normal(size=6)}, {"x": RNG.normal(size=(8, 6))}
NOTHING = "Axis 'data' divides nothing"


def _judged(module: Any, candidate: str, reference: str = "reference", **more: Any) -> conformance.Judgement:
    return conformance.check(
        reference=getattr(module, reference),
        candidate=getattr(module, candidate),
        parameters=PARAMETERS,
        batch=BATCH,
        mesh="data=2",
        framework=module.__name__.rpartition("_")[2],
        **more,
    )


@pytest.mark.parametrize("module", [hollow_jax, hollow_torch], ids=["jax", "torch"])
def test_a_program_that_divides_nothing_is_no_pass(module: Any) -> None:
    judgement = _judged(module, "everything_everywhere")
    assert not judgement
    assert NOTHING in str(judgement)


@pytest.mark.parametrize("module", [hollow_jax, hollow_torch], ids=["jax", "torch"])
def test_sums_over_a_divided_batch_are_a_pass_that_says_what_was_not_held(module: Any) -> None:
    judgement = _judged(module, "data_parallel")
    assert judgement, str(judgement)
    assert "pass, communication not held" in str(judgement)


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_a_table_in_parts_is_divided_and_a_whole_one_is_not(framework: str) -> None:
    """Though every rank makes all products, and holds all parameters and gradients whole."""
    judged = answers(f"table_{framework}.py", ["table in parts", "table whole"], timeout=200)
    assert judged["table in parts"]["verdict"] == "pass"
    assert judged["table whole"]["verdict"] == "fail"
    assert "Axis 'tensor' divides nothing" in judged["table whole"]["text"]


def test_nothing_may_be_divided_on_purpose() -> None:
    judgement = _judged(hollow_torch, "everything_everywhere", replicated_axes=("data",))
    assert judgement, str(judgement)
    assert "on purpose" in str(judgement)


def test_a_rank_that_leaves_its_copy_out_is_named() -> None:
    judgement = _judged(hollow_torch, "first_rank_alone")
    assert not judgement
    assert "'gradients/w' is missing on rank 1." in str(judgement)


def test_a_gradient_that_is_always_zero_shows_nothing() -> None:
    judgement = _judged(hollow_torch, "data_parallel", "reference_of_one")
    assert "'gradients/w' of the reference is zero everywhere" in str(judgement)


def test_a_word_that_names_nothing_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="replicated_axes names 'tensor', which is none of data"):
        _judged(hollow_torch, "data_parallel", replicated_axes=("tensor",))
