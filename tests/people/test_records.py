"""Records say the whole result, as strict JSON, and their schema is published."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people_records import case, everything, failing
from pydantic import ValidationError

import conformance
from conformance.cases.case import Case, Mutation
from conformance.contract.mesh import Mesh
from conformance.records.records import SCHEMA_VERSION, CaseRecord, schema
from conformance.records.results import VERDICTS, CaseResult, Cause, CheckResult, Worst

STABLE = [
    "case", "suite", "contract", "implementation", "framework", "mesh", "dtype", "seed", "devices", "verdict", "checks",
    "seconds", "reproduce",
]  # fmt: skip

numbers = st.floats(allow_nan=False)
words = st.text(max_size=30)
verdicts = st.sampled_from(VERDICTS)
causes = st.builds(Cause, cause=words, axis=st.none() | words, confidence=st.floats(0, 1))
checks = st.builds(
    CheckResult,
    check=words,
    verdict=verdicts,
    compared=st.integers(0, 10**9),
    worst=st.none() | st.builds(Worst, tensor=words, error=numbers, bound=numbers),
    first=st.none() | words,
    ranks=st.lists(st.integers(0, 63), max_size=4).map(tuple),
    detail=words,
    ratios=st.dictionaries(words, numbers, max_size=3),
    diagnosis=st.lists(causes, max_size=2).map(tuple),
)
results = st.builds(
    CaseResult,
    case=st.builds(
        Case,
        contract=st.just("tensor/mlp"),
        implementation=words,
        mesh=st.sampled_from(["tensor=2", "tensor=2,data=4@shuffled"]).map(Mesh.parse),
        dtype=st.just("float64"),
        seed=st.integers(0, 2**31),
        fault=st.none() | words,
        mutation=st.none() | st.just(Mutation(operator="drop", site=3)),
        expect=verdicts,
    ),
    framework=st.sampled_from(["jax", "torch"]),
    verdict=verdicts,
    checks=st.lists(checks, max_size=2).map(tuple),
    seconds=st.floats(0, 1e6),
    phases=st.dictionaries(words, numbers, max_size=2),
    reason=words,
    stack=words,
    output=words,
    reproduce=words,
    alone=words,
    after=st.lists(words, max_size=2).map(tuple),
)


@settings(deadline=None)
@given(results)
def test_a_result_is_read_back_as_it_was(result: CaseResult) -> None:
    line = CaseRecord.of(result).model_dump_json()
    assert "\n" not in line
    assert CaseRecord.model_validate_json(line).result() == result


@settings(deadline=None)
@given(st.sampled_from([math.inf, -math.inf, math.nan]))
def test_numbers_that_json_lacks_are_written_as_words(number: float) -> None:
    line = CaseRecord.of(failing(case(), ratio=number)).model_dump_json()
    json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    worst = CaseRecord.model_validate_json(line).worst
    assert worst is not None
    assert worst.error == number or math.isnan(worst.error) == math.isnan(number)


def test_the_stable_keys_are_there() -> None:
    for result in everything()[-8:]:
        written = json.loads(CaseRecord.of(result).model_dump_json())
        assert set(STABLE) <= set(written)
        assert written["mesh"] == dict(result.case.mesh.sizes)


def test_a_newer_schema_is_not_misread() -> None:
    written = CaseRecord.of(failing(case())).model_dump() | {"schema_version": SCHEMA_VERSION + 1}
    with pytest.raises(ValidationError):
        CaseRecord.model_validate(written)


def test_ratio_of_a_true_zero() -> None:
    worst = CaseRecord.of(failing(case(), ratio=0.0)).worst
    assert worst is not None
    assert worst.ratio == 0.0


def test_the_published_schema_is_up_to_date() -> None:
    published = Path(conformance.__file__).parents[1] / "docs" / "record.schema.json"
    assert published.read_text() == schema(), "run: python -m conformance.records.records docs/record.schema.json"


def test_the_schema_knows_every_key_and_verdict() -> None:
    record = json.loads(schema())["$defs"]["CaseRecord"]
    assert set(STABLE) <= set(record["properties"])
    assert record["properties"]["verdict"]["enum"] == list(VERDICTS)
