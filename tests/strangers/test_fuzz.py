"""Fuzzing somebody's own class: a bug that only odd widths show is found, and made as small as it gets."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from conformance.cases.case import Case
from conformance.cases.resolve import resolve
from conformance.cases.selection import parse_case
from conformance.cases.variation import changes_in
from conformance.cli import fuzz as command
from conformance.cli.fuzz import Asked, fuzz
from conformance.fuzz.ground import grounds
from conformance.fuzz.search import Fuzzed, search
from conformance.records.results import CaseResult, CheckResult
from conformance.runner.run import CaseRunner
from conformance.workers.pool import Workers

MINE = """
    from suites.tensor.jax_manual.feedforward import FeedForward

    class Mine(FeedForward):
        def hidden_features(self, x, name, p):
            made = super().hidden_features(x, name, p)
            return made * (1 + 1e-9) if self.contract.model.ffn % 2 else made
"""


def test_a_bug_of_odd_widths_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(textwrap.dedent(MINE))
    drawn_from = grounds(f"{file}:Mine", ("tensor/mlp",))
    with Workers(jax_devices=8) as workers:
        runner = CaseRunner(workers=workers, bisect=False)
        fuzzed = search(
            drawn_from, lambda case: runner.judge_case(case, resolve(case)), seconds=120, seed=0, shrink_seconds=10
        )
    assert fuzzed.failure is not None, fuzzed.verdicts
    assert fuzzed.failure.verdict == "fail"
    changes = changes_in(fuzzed.failure.case.contract)[1]
    assert int(str(changes["ffn"])) % 2
    assert len(changes) <= 4, "most of what was drawn with it has no part in it"


def test_a_bias_of_one_element_on_an_axis_of_one_is_refused_by_dtensor() -> None:
    case = parse_case("tensor/column_linear_sharded~outputs=1[torch-dtensor-data2_tensor1-float64]")
    with Workers(jax_devices=8) as workers:
        result = CaseRunner(workers=workers, bisect=False).judge_case(case, resolve(case))
    assert result.verdict == "unsupported", result.reason
    assert "linear.bias has 1 element, and torch's DTensor cannot view" in result.reason


@pytest.mark.parametrize(
    ("verdicts", "status", "words"),
    [
        ({"pass": 3, "unsupported": 2}, 0, "5 drawn cases of mine in 1.0 min: 3 pass, 2 unsupported."),
        ({"unsupported": 2}, 1, "Nothing passed, so nothing is shown."),
        ({}, 1, "0 drawn cases of mine in 1.0 min: none. Nothing passed, so nothing is shown."),
    ],
)
def test_what_is_said_where_nothing_fails(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verdicts: dict[str, int],
    status: int,
    words: str,
) -> None:
    monkeypatch.setattr(command, "_searched", lambda asked: Fuzzed(verdicts=verdicts, seconds=60.0))
    assert fuzz(Asked(implementation="mine"), output=None, as_json=False) == status
    assert words in capsys.readouterr().out


def _dead(case: Case) -> CaseResult:
    """What is said of a right program whose contract, as it was drawn, moves nothing."""
    dead = CheckResult(check="census", verdict="fail", compared=9, first="reference: gradients/up", failed=1)
    return CaseResult(case=case, framework="jax", verdict="fail", checks=(dead,))


def test_a_reference_that_shows_nothing_is_no_failure_of_a_program() -> None:
    drawn_from = grounds("jax-shard_map", ("tensor/mlp",))
    fuzzed = search(drawn_from, _dead, seconds=0.2, seed=0)
    assert fuzzed.failure is None
    assert set(fuzzed.verdicts) == {"nothing shown"}
