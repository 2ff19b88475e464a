"""Expectations: known failures make a run green; what matches nothing, has expired or passes is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from people_records import ONE, broken, case, failing, passing

from conformance.cases.expectations import Expectation
from conformance.records.recorder import read

ENTRY = """
[[expected]]
case = "tensor/mlp[jax-*-float64]"
verdict = "fail"
until = 2999-12-31
reason = "our all-gather rounds"
"""


def test_a_known_failure_is_as_expected_and_another_verdict_is_not(shardproof, fake_run, here: Path) -> None:
    (here / "known.toml").write_text(ENTRY)
    fake_run.judge = failing
    done = shardproof("run", *ONE, "--expectations", "known.toml", "--output", "out")
    assert done.exit_code == 0, done.output
    assert [(record.verdict, record.expected) for record in read(here / "out").records] == [("fail", "fail")]
    fake_run.judge = lambda judged: broken(judged, "crash")
    assert shardproof("run", *ONE, "--expectations", "known.toml", "--output", "crashed").exit_code == 1


def test_an_unexpected_pass_fails_the_run(shardproof, fake_run, here: Path) -> None:
    (here / "known.toml").write_text(ENTRY)
    fake_run.judge = passing
    done = shardproof("run", *ONE, "--expectations", "known.toml", "--output", "out")
    assert done.exit_code == 1
    assert "The verdict is pass, expected was fail." in done.stdout


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (ENTRY.replace("tensor/mlp[", "tensor/mpl["), "'tensor/mpl[jax-*-float64]' matches none of the 1 cases"),
        (ENTRY.replace("2999-12-31", "2020-01-31"), "expired on 2020-01-31: look at it again."),
        (ENTRY.replace('"fail"', '"pass"'), "expected.0.verdict"),
        (ENTRY.replace("our all-gather rounds", ""), "expected.0.reason"),
        (ENTRY.replace("reason", "because"), "expected.0.reason"),
        (ENTRY + "[[expected", "is no TOML"),
        (None, "Cannot read 'known.toml': No such file or directory."),
    ],
)
def test_a_file_that_does_not_hold_is_refused_before_anything_runs(
    shardproof, fake_run, here: Path, entry: str | None, said: str
) -> None:
    if entry is not None:
        (here / "known.toml").write_text(entry)
    done = shardproof("run", *ONE, "--expectations", "known.toml", "--output", "out")
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert fake_run.cases == []
    assert not (here / "out").exists()


def test_what_a_fraction_leaves_out_does_not_make_an_entry_stale(shardproof, fake_run, here: Path) -> None:
    (here / "known.toml").write_text(ENTRY)
    words = ("--contract", "tensor/mlp", "--dtype", "float64", "--expectations", "known.toml")
    fake_run.judge = lambda judged: failing(judged) if judged.expect == "fail" else passing(judged)
    total = 0
    for share in ("1/2", "2/2"):
        done = shardproof("run", *words, "--fraction", share, "--output", f"out{share[0]}")
        assert done.exit_code == 0, done.output
        total += len(fake_run.cases)
    assert total == len({record.case for part in "12" for record in read(here / f"out{part}").records})


def test_brackets_and_stars() -> None:
    entry = Expectation(case="tensor/mlp[*-data2_tensor4-*]", until="2999-01-01", reason="known")
    assert entry.matches(case())
    assert not entry.matches(case(mesh="tensor=4"))
    assert not entry.matches(case("tensor/layer"))
