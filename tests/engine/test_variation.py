"""Variations of contracts, and the search among them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conformance.cases.case import Case
from conformance.cases.resolve import resolve
from conformance.cases.selection import Selection, parse_case, select
from conformance.cases.suite import suites
from conformance.cases.usage import UsageError
from conformance.cases.variation import changes_in, name_of
from conformance.contract.mesh import Mesh
from conformance.fuzz.ground import grounds
from conformance.fuzz.search import search
from conformance.records.results import CaseResult
from conformance.workers import lookup

NAME = "tensor/mlp~activation=swiglu,clip_norm=None,ffn=7,rows=5"


def test_a_name_says_what_is_changed() -> None:
    origin, changes = changes_in(NAME)
    assert (origin, changes) == ("tensor/mlp", {"activation": "swiglu", "clip_norm": None, "ffn": 7, "rows": 5})
    assert name_of(origin, changes) == NAME
    assert name_of(origin, {}) == origin


def test_all_that_follows_from_a_change_is_made_again() -> None:
    contract = suites()["tensor"].contract(NAME)
    assert contract.name == NAME
    assert contract.shapes["feedforward.down.weight"] == (7, 12)
    assert contract.parameters(0)["feedforward.gate.weight"].shape == (12, 7)
    assert {len(value) for value in contract.example.values()} == {5}
    assert contract.recipe.clip_norm is None


def test_workers_find_a_variation_and_the_same_without_a_feature() -> None:
    name = "tensor/layer~hidden=16"
    assert lookup.contract(name).model.hidden == 16
    assert lookup.contract(f"{name}~accumulation").recipe.accumulation == 1
    assert lookup.contract(f"{name}~accumulation").model.hidden == 16


def test_a_case_of_a_variation_is_run_again_from_its_id_or_its_contract() -> None:
    case = Case(contract=NAME, implementation="jax-shard_map", mesh=Mesh.parse("tensor=2"), dtype="float64")
    assert parse_case(case.id) == case
    assert resolve(case).path == resolve(replace(case, contract="tensor/mlp")).path
    asked = Selection(contracts=(NAME,), implementation="jax-shard_map", mesh="tensor=2", dtype="float64")
    assert select(asked) == [case]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tensor/mlp~experts=3", "no 'experts' to vary"),
        ("tensor/mlp~ffn", "write field=value"),
        ("tensor/mlp~accumulation=2,rows=5", "5 rows cannot be cut into 2 slices"),
        ("tensor/attention_gqa_headnorm~num_heads=4,num_kv_heads=3", "4 heads cannot share 3 key heads"),
        ("tensor/language_model_text~vocabulary=11", "needs a language model with a vocabulary of at least 256 ids"),
        ("tensor/row_linear_exact~hidden=7", "nothing of it can be varied"),
    ],
)
def test_what_cannot_be_is_a_sentence(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        suites()["tensor"].contract(name)


def test_an_outsider_says_which_contract() -> None:
    with pytest.raises(UsageError, match="needs --contract"):
        grounds("docs/examples/mlp_jax.py:TensorParallelMLP")


def judged(case: Case, broken: bool) -> CaseResult:
    return CaseResult(case=case, framework="jax", verdict="fail" if broken else "pass", checks=())


def test_what_fails_is_made_as_small_as_it_gets() -> None:
    """Wrong where the feed-forward width is odd and the mesh has a tensor axis of 3; nothing else matters."""

    def judge(case: Case) -> CaseResult:
        ffn = suites()["tensor"].contract(case.contract).model.ffn
        return judged(case, ffn % 2 == 1 and case.mesh.size("tensor") == 3)

    fuzzed = search(grounds("jax-shard_map", ("tensor/mlp",)), judge, seconds=60, seed=1)
    assert fuzzed.failure is not None
    case = fuzzed.failure.case
    assert changes_in(case.contract)[1] == {"ffn": 13}, "the first odd width of the table"
    assert (str(case.mesh), case.seed) == ("data=1,tensor=3", 0)
    assert fuzzed.verdicts["pass"] > 0


def test_drawing_ends_with_the_time_and_no_case_is_judged_twice() -> None:
    seen: list[str] = []

    def judge(case: Case) -> CaseResult:
        seen.append(case.id)
        return judged(case, False)

    fuzzed = search(grounds("torch-collectives", ("tensor/mlp", "tensor/layer")), judge, seconds=1, seed=0)
    assert fuzzed.failure is None
    assert fuzzed.judged == len(seen) == len(set(seen)) > 0
    assert all("~" in name for name in seen)
