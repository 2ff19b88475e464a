"""The must-pass list: published as it is, with the checks that the judge really applies, and seeds of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance.cases.selection import Selection, select
from conformance.cases.suite import suites
from conformance.qualify.must_pass import LIST, SEEDS, must_pass, owed_checks, published
from conformance.records.records import CaseRecord

ROOT = Path(__file__).parents[2]
WANTED = Selection(profile="qualification", suites=("moe",))


def test_the_list_is_published() -> None:
    file = ROOT / "results" / "qualification" / LIST
    assert file.read_text() == published(), f"run: python -m conformance.qualify.must_pass {file.parent.name}"


def test_every_program_is_run_with_drawn_seeds_too() -> None:
    cases, standing = must_pass(WANTED), select(WANTED)
    drawn = cases[len(standing) :]
    assert cases[: len(standing)] == standing
    assert {case.seed for case in drawn} == set(SEEDS)
    float64 = [case for case in standing if (case.dtype, case.expect) == ("float64", "pass")]
    programs = {(case.contract, case.implementation) for case in float64}
    assert {(case.contract, case.implementation) for case in drawn} == programs
    assert not set(SEEDS) & {case.seed for case in standing}


def test_a_smaller_system_has_fewer_cases_and_a_rehearsal_no_drawn_ones() -> None:
    most = must_pass(WANTED, 4)
    assert 0 < len(most) < len(must_pass(WANTED))
    assert max(case.mesh.devices for case in most) == 4
    assert {case.seed for case in must_pass(Selection(profile="smoke", suites=("moe",)))} == {0}
    real = must_pass(Selection(profile="qualification", suites=("moe",), devices="real"), 4)
    assert [case.id.replace("-real]", "]") for case in real] == [case.id for case in most]


@pytest.mark.parametrize("suite", ["tensor", "moe"])
def test_the_checks_that_a_case_owes_are_those_that_judge_it(suite: str) -> None:
    """As published records say; older ones lack `memory`, and left out `communication` where nothing is declared."""
    compared = 0
    for line in (ROOT / "results" / suite / "cases.jsonl").read_text().splitlines()[::5]:
        value = json.loads(line)
        if value["verdict"] != "pass":
            continue
        record = CaseRecord.model_validate(value)
        owed = owed_checks(record.result().case, suites()[suite].contract(record.contract))
        checked = {check.check for check in record.checks}
        optional = {"memory"} | ({"communication"} if "automatic" in record.implementation else set())
        assert checked <= owed | optional, record.case
        assert owed - checked <= optional, record.case
        compared += 1
    assert compared > 50
