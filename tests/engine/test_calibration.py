"""The bounds against the published calibration: tight, and widened by nobody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.evidence.tolerance import BOUNDS
from conformance.records.calibration import excesses, fits
from conformance.records.records import CaseRecord
from conformance.records.results import CaseResult, CheckResult
from tests.engine.specimen import case_run

PUBLISHED = Path(__file__).parents[2] / "results" / "calibration" / "calibration.json"
ROOM = 1.5  # a bound may lie this far above what the published distribution suggests, not farther


@pytest.mark.parametrize("fit", json.loads(PUBLISHED.read_text())["fits"], ids=lambda fit: fit["dtype"])
def test_a_bound_lies_above_every_conforming_run_and_not_far_above(fit: dict) -> None:
    assert fit["cases"] >= 100
    assert fit["bound"] == BOUNDS[fit["dtype"]]
    assert max(fit["largest"], fit["suggested"]) <= fit["bound"] <= ROOM * fit["suggested"]


def _record(number: int, ratio: float, verdict: str = "pass") -> CaseRecord:
    case = case_run().case
    check = CheckResult(check="logic", verdict=verdict, compared=1, ratios={"gradients": ratio})
    named = CaseResult(case=replace(case, seed=number), framework="jax", verdict=verdict, checks=(check,))
    return CaseRecord.of(named)


def test_only_conforming_cases_count_and_in_units_of_the_yardstick() -> None:
    records = [_record(1, 0.25), _record(2, 0.5), _record(3, 900.0, "fail")]
    [fit] = fits(excesses(records))
    assert (fit.dtype, fit.cases, fit.largest) == ("float64", 2, 0.5 * BOUNDS["float64"])
