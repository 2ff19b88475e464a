"""`pytest suites`: the same cases under the same ids, with their figures, diagnoses and reasons."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from people_records import broken, failing, passing

import suites.tensor.suite
from conformance.cases.suite import suites as installed

pytest_plugins = ("pytester",)
SUITE = Path(suites.tensor.suite.__file__)
FIRST = "tensor/mlp[jax-shard_map-data2_tensor4-float64]"


class FakeBench:
    """Judges every case by its implementation: one fails, one is refused, one hangs, the others pass."""

    def judge_case(self, case, target):
        if case.implementation == "jax-automatic":
            return failing(case)
        if case.implementation == "torch-dtensor":
            return broken(case, "hang")
        return broken(case, "unsupported") if case.expect == "unsupported" else passing(case)


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("conformance.pytest_plugin._bench", lambda session: FakeBench())
    return lambda *words: pytester.runpytest_inprocess("-p", "no:cacheprovider", *words)


def test_items_have_the_ids_of_the_cases(run) -> None:
    result = run(SUITE, "--collect-only", "-q", "-o", "addopts=")
    ids = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert ids == [case.id for case in installed()["tensor"].cases("smoke")]


def test_verdicts_become_outcomes(run) -> None:
    result = run(SUITE)
    smoke = installed()["tensor"].cases("smoke")
    wrong = sum(case.implementation in ("jax-automatic", "torch-dtensor") for case in smoke)
    result.assert_outcomes(passed=len(smoke) - wrong, failed=wrong)
    text = result.stdout.str()
    assert "likely: reduction missing: the copies are partial sums on axis tensor (confidence 97%)" in text
    assert "reproduce: shardproof run --contract tensor/mlp --implementation jax-automatic" in text
    assert "rank 0 waits in all_reduce" in text
    assert "pytest_plugin.py" not in text  # no traceback of ours: the finding is the message


def test_one_case_by_its_id(run) -> None:
    run(f"{SUITE}::{FIRST}").assert_outcomes(passed=1)


def test_an_expected_refusal_is_skipped_with_its_reason(run) -> None:
    result = run(SUITE, "--shardproof-profile", "core", "-k", "attention_mha_fused and shard_map-tensor3", "-rs")
    result.assert_outcomes(skipped=1, deselected=len(installed()["tensor"].cases("core")) - 1)
    assert "8 heads cannot be divided over tensor=3" in result.stdout.str()


def test_junit_carries_the_figures(run, pytester: pytest.Pytester) -> None:
    run(f"{SUITE}::{FIRST}", "--junitxml", "out.xml")
    (case,) = ElementTree.parse(pytester.path / "out.xml").getroot().iter("testcase")
    assert case.get("name") == FIRST
    figures = {element.get("name"): element.get("value") for element in case.iter("property")}
    assert figures["logic.ratio"] == "0.3"
    assert figures["mesh"] == "data=2,tensor=4"


def test_an_unknown_profile_is_refused(run) -> None:
    result = run(SUITE, "--shardproof-profile", "smok")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "did you mean 'smoke'" in result.stderr.str()


def test_a_profile_without_cases_fails(run, monkeypatch) -> None:
    monkeypatch.setattr("conformance.cases.suite.Suite.cases", lambda suite, profile: [])
    result = run(SUITE)
    result.assert_outcomes(errors=1)
    assert "has no case in the profile 'smoke'" in result.stdout.str()


def test_nothing_selected_fails(run) -> None:
    assert run(SUITE, "-k", "no_such_case").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_suite_file_that_nobody_installed_is_left_alone(run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(suite="SUITE = None")
    assert run(pytester.path).ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_it_runs_under_xdist(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(
        fakebench="""
        from test_pytest_plugin import FakeBench
        import conformance.pytest_plugin as plugin
        plugin._bench = lambda session: FakeBench()
        """
    )
    folders = (pytester.path, Path(__file__).parent, os.environ.get("PYTHONPATH"))
    monkeypatch.setenv("PYTHONPATH", ":".join(str(folder) for folder in folders if folder))
    result = pytester.runpytest_subprocess("-p", "fakebench", "-n", "2", SUITE, "-k", "mlp")
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"]) == (2, 2)
