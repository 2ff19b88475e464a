"""`shardproof power` of somebody's own class: what it is held to, what is left out, and the exit status."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from people_records import failing, passing

from conformance.cases.case import Case
from conformance.cases.suite import suites
from conformance.contract.mesh import Mesh
from conformance.power.suitable import BY_ANNOTATION, Found, candidates, find
from conformance.power.table import PowerRow, PowerTable
from conformance.trace.site import Site
from conformance.workers.jobs import Outcome, SitesJob

SITE = Site(number=0, kind="all_reduce", axes=("tensor",), phase="forward", shape=(2,), operators=("drop",))
MINE = """
from conformance import Implementation

class Mine(Implementation):
    framework = "jax"
    def place(self, parameters, mesh): ...
    def step(self, state, batch): ...
    def collect(self, state): ...
"""
ROW = PowerRow(kind="mutation", id="drop@0", what="dropped", contract="tensor/mlp", implementation="mine.py:Mine",
               mesh="tensor=2", dtype="float64", verdict="fail")  # fmt: skip
ANSWERS = {
    "tensor/mlp": Outcome(sites=(SITE,)),
    "tensor/layer": Outcome(sites=(SITE,)),
    "tensor/exact": Outcome(failure="error", reason="KeyError: 'feedforward.up.weight'"),
    "tensor/row_linear": Outcome(failure="unsupported", reason="Only feed-forward blocks."),
    "tensor/column_linear": Outcome(),
    "tensor/linear_2d": Outcome(unwatched="it cannot be traced as a whole"),
    "tensor/swiglu": Outcome(sites=(replace(SITE, operators=()),)),
}
LEFT_OUT = {
    "tensor/layer on tensor=2": "it does not conform as it is: logic: step 1:",
    "tensor/exact on tensor=2": "it does not run there: KeyError",
    "tensor/row_linear on tensor=2": "it refuses: Only feed-forward blocks.",
    "tensor/column_linear on tensor=2": BY_ANNOTATION,
    "tensor/linear_2d on tensor=2": "its collectives are not known: it cannot be traced",
    "tensor/swiglu on tensor=2": "no change applies",
}


class JobHandler:
    """Stands for the workers: an answer for every contract."""

    def run(self, job: Any, seconds: float) -> Outcome:
        assert isinstance(job, SitesJob)
        return ANSWERS[job.case.contract]


@pytest.fixture
def mine(here: Path) -> str:
    (here / "mine.py").write_text(MINE)
    return "mine.py:Mine"


@pytest.fixture
def suitable(mine: str, monkeypatch: pytest.MonkeyPatch) -> Found:
    def judged(cases: list[Case], *, on_result: Any, **rest: object) -> None:
        for case in cases:
            on_result(failing(case) if case.contract == "tensor/layer" else passing(case))

    monkeypatch.setattr("conformance.power.suitable.run", judged)
    monkeypatch.setattr("conformance.power.suitable.resolve", lambda case: Target())
    mesh = Mesh.parse("tensor=2")
    cases = [Case(contract=name, implementation=mine, mesh=mesh, dtype="float64") for name in ANSWERS]
    return find(cases, JobHandler(), lambda sentence: None)


class Target:
    framework, path = "jax", "mine.py:Mine"


def test_only_where_it_conforms_something_is_planted(suitable: Found) -> None:
    assert [case.contract for case in suitable.sites] == ["tensor/mlp"]
    assert list(suitable.controls) == [case.id for case in suitable.sites]


def test_what_is_left_out_is_left_out_for_a_reason(suitable: Found) -> None:
    assert set(suitable.left_out) == set(LEFT_OUT)
    for where, why in LEFT_OUT.items():
        assert suitable.left_out[where].startswith(why[:20]), suitable.left_out[where]
        assert why in suitable.left_out[where]


def test_meshes_are_those_that_the_suite_mutates_or_those_of_the_contract(mine: str) -> None:
    chosen = [suites()["tensor"]]
    assert [str(case.mesh) for case in candidates(chosen, mine, ["tensor/swiglu"])] == ["data=2,tensor=4"]
    assert [str(case.mesh) for case in candidates(chosen, mine, ["tensor/mlp"])] == ["data=2,tensor=4"]
    [case] = candidates(chosen, mine, ["tensor/mlp"], Mesh.parse("dp=2,tp=3"))
    assert str(case.mesh) == "dp=2,tp=3"
    bisected = {case.contract for case in candidates(chosen, mine)}
    assert len(bisected) >= len(chosen[0].contracts) - 1  # every one that is anywhere divided


@pytest.mark.parametrize(
    ("rows", "left_out", "status"),
    [
        ([ROW], {}, 0),
        ([ROW], {"tensor/layer on tensor=2": "it refuses: no."}, 0),
        ([replace(ROW, verdict="pass")], {}, 1),
        ([replace(ROW, kind="control", id="unchanged", verdict="pass")], {}, 1),
        ([], {"tensor/mlp on tensor=2": BY_ANNOTATION}, 1),
    ],
)
def test_the_status_is_that_of_what_was_planted(
    shardproof, mine: str, monkeypatch, rows: list[PowerRow], left_out: dict[str, str], status: int
) -> None:
    table = PowerTable.of(rows, left_out=left_out)
    monkeypatch.setattr("conformance.power.measure.power", lambda names, **rest: table)
    done = shardproof("power", "--implementation", mine, "--output", "out")
    assert done.exit_code == status, done.output
    assert ("Nothing was planted." in done.stdout) == (not rows)
    for where, why in left_out.items():
        assert f"Left out, since {why.rstrip('.')}: {where}." in done.stdout
        assert where in Path("out/power.md").read_text()


def test_a_contract_that_was_asked_for_must_be_measured(shardproof, mine: str, monkeypatch) -> None:
    monkeypatch.setattr("conformance.power.measure.power", lambda names, **rest: PowerTable.of([ROW]))
    words = ("power", "--implementation", mine, "--output", "out", "--contract")
    assert shardproof(*words, "tensor/mlp").exit_code == 0
    assert shardproof(*words, "tensor/layer").exit_code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--contract", "tensor/mlp"], "are for an implementation of your own"),
        (["--implementation", "jax-shard_map", "--mesh", "tensor=2"], "are for an implementation of your own"),
        (["--implementation", "mine.py:Mine", "--contract", "tensor/nothing"], "Unknown contract"),
        (["--implementation", "mine.py:Mine", "--mesh", ""], "mesh"),
        (["--implementation", "mine.py:Mine", "--mesh", "tensor=100000"], "devices"),
        (["--implementation", "gone.py:Mine"], "There is no file"),
    ],
)
def test_wrong_use_is_one_sentence(shardproof, mine: str, words: list[str], said: str) -> None:
    done = shardproof("power", *words)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
