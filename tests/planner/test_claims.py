"""The table of what guides claim: every claim has figures of plans, what was measured, and an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from suites.planning.claims import claims, page
from suites.planning.measured_here import Measurements

RESULTS = Path(__file__).parents[2] / "results"
SAID = ("checkpointing", "accumulation", "bubbles", "16 microbatches waste", "diminish", "tensor axis of 8",
        "16 microbatches are", "communication")  # fmt: skip


@pytest.fixture(scope="module")
def here() -> Measurements:
    return Measurements.read(RESULTS)


def test_every_claim_is_answered(here: Measurements) -> None:
    answered = list(claims(here))
    assert all(any(words in claim.claim for claim in answered) for words in SAID)
    assert all(claim.found and claim.measured and claim.holds and claim.conditions for claim in answered)
    assert sum("%" in claim.measured for claim in answered) >= 4


def test_what_is_published_is_what_the_code_says(here: Measurements) -> None:
    assert (RESULTS / "planning/claims.md").read_text(encoding="utf-8") == "\n".join(page(here)) + "\n"


def test_a_bubble_that_is_not_there_is_no_figure(here: Measurements) -> None:
    with pytest.raises(ValueError, match="not enough values"):
        here.bubble(7)
