"""Captured runs, judged offline: a right one passes, a fault is named, what cannot be judged is one sentence."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import by_hand
import numpy as np
import pytest
from by_hand import Run
from typer.testing import CliRunner

from conformance.cli.main import app


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return by_hand.recorded(tmp_path_factory.mktemp("recording"))


def _judge(single: Path, *runs: Path) -> tuple[int, list[dict], str]:
    output = runs[0].with_name(f"{runs[0].name}-results")
    done = CliRunner().invoke(app, ["judge", str(single), *map(str, runs), "--output", str(output), "--json"])
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done.exit_code, records, done.output


def test_a_right_run_passes_and_every_check_has_compared_something(single: Path, tmp_path: Path) -> None:
    status, [record], _ = _judge(single, by_hand.captured(tmp_path / "right", Run()))
    assert (status, record["verdict"]) == (0, "pass")
    checks = {check["check"]: check for check in record["checks"]}
    assert set(checks) == {"batch", "census", "numerics", "replicas", "trajectory", "layout"}
    assert all(check["verdict"] == "pass" and check["compared"] for check in checks.values())
    assert "The oracle is the single-device run in float64; the yardstick are 4 runs" in checks["numerics"]["detail"]
    assert checks["numerics"]["worst"]["error"] > 0  # float32 is not float64: it was really compared
    assert (tmp_path / "right-results" / "report.html").is_file()


CLIPPED = Run(clip_norm=0.05)


@pytest.mark.parametrize("left_out", ["metrics/grad_norm", "clipped/w"])
def test_a_norm_that_no_hook_sees_is_not_held_and_gradients_after_clipping_are_owed(
    left_out: str, tmp_path: Path
) -> None:
    """A trainer that clips by its own arithmetic, and one that does not clip."""
    single = by_hand.recorded(tmp_path / "single", clip_norm=0.05)
    run = by_hand.captured(tmp_path / "run", replace(CLIPPED, left_out=("metrics/grad_norm", left_out)))
    status, [record], _ = _judge(single, run)
    [census] = [check for check in record["checks"] if check["check"] == "census"]
    right = left_out == "metrics/grad_norm"
    assert (status, census["verdict"]) == ((0, "pass") if right else (1, "fail"))
    assert census["not_held"] == "No rank hands over 'metrics/grad_norm', which the reference has."
    if not right:
        assert census["detail"] == "'clipped/w' is missing from step 1."


def test_a_norm_that_is_wrong_fails(tmp_path: Path) -> None:
    single = by_hand.recorded(tmp_path / "single", clip_norm=0.05)
    run = replace(CLIPPED, change=lambda name, rank, x: x * np.float32(0.5) if name == "metrics/grad_norm" else x)
    assert _judge(single, by_hand.captured(tmp_path / "run", run))[0] == 1


def _doubled(name: str, rank: int, value: np.ndarray) -> np.ndarray:
    return value * np.float32(2) if name == "gradients/w" else value


def _one_copy(name: str, rank: int, value: np.ndarray) -> np.ndarray:
    return np.nextafter(value, np.float32(9)) if (name, rank) == ("parameters/w", 5) else value


def _not_updated(name: str, rank: int, value: np.ndarray) -> np.ndarray:
    width = by_hand.OUTPUTS // by_hand.MESH["tp"]
    start = by_hand.weights().astype("f4")[:, (rank % 4) * width :][:, :width]
    return np.ascontiguousarray(start) if name == "parameters/w" else value


def _other_start(name: str, rank: int, value: np.ndarray) -> np.ndarray:
    return value + np.float32(1e-3) if name == "parameters/w" else value


FAULTS = {
    "gradient doubled": (Run(change=_doubled), "numerics", "dp"),
    "a copy of its own": (Run(change=_one_copy), "replicas", None),
    "not updated": (Run(change=_not_updated), "trajectory", None),
    "another start": (Run(change=_other_start), "census", None),
    "same rows": (Run(rows=lambda data: 0), "batch", "dp"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_by_its_check_on_its_axis(fault: str, single: Path, tmp_path: Path) -> None:
    run, check, axis = FAULTS[fault]
    status, [record], _ = _judge(single, by_hand.captured(tmp_path / "wrong", run))
    failing = {entry["check"]: entry for entry in record["checks"] if entry["verdict"] == "fail"}
    assert (status, record["verdict"]) == (1, "fail")
    assert check in failing
    if axis is not None:
        assert failing[check]["diagnosis"][0]["axis"] == axis
    assert record["reproduce"] == f"shardproof judge {single} {tmp_path / 'wrong'}"


def test_several_runs_name_the_axis_that_separates_them(single: Path, tmp_path: Path) -> None:
    def third(name: str, rank: int, value: np.ndarray) -> np.ndarray:
        return value * np.float32(1.37) if name == "gradients/w" else value

    wide = by_hand.captured(tmp_path / "wide", Run(change=third))
    narrow = by_hand.captured(tmp_path / "narrow", Run(mesh={"dp": 1, "tp": 4}))
    _, [alone], _ = _judge(single, wide)
    assert all(cause["axis"] is None for check in alone["checks"] for cause in check["diagnosis"])
    _, records, _ = _judge(single, narrow, wide)
    [failed] = [record for record in records if record["verdict"] == "fail"]
    [cause, *_] = next(check["diagnosis"] for check in failed["checks"] if check["verdict"] == "fail")
    assert (cause["axis"], cause["place"]) == ("dp", True)


def test_a_rank_that_died_leaves_what_all_had_finished(single: Path, tmp_path: Path) -> None:
    status, [record], _ = _judge(single, by_hand.captured(tmp_path / "died", Run(ended={3: 1})))
    assert (status, record["verdict"]) == (1, "crash")
    assert "rank 3 ended before step 2 was over" in record["reason"]
    assert "1 of 2 steps, is right" in record["reason"]
    status, [record], _ = _judge(single, by_hand.captured(tmp_path / "wrong", Run(ended={3: 1}, change=_doubled)))
    assert (status, record["verdict"]) == (1, "fail")


def _remove_rank(folder: Path) -> None:
    (folder / "rank-00006.json").unlink()


def _tear(folder: Path) -> None:
    path = folder / "rank-00002.step-1.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def _remove_tensors(folder: Path) -> None:
    (folder / "rank-00002.step-2.safetensors").unlink()


def _other_launch(folder: Path) -> None:
    path = folder / "rank-00001.json"
    path.write_text(path.read_text().replace('"run":"one"', '"run":"two"'))


def _no_record(folder: Path) -> None:
    (folder / "rank-00001.json").write_text("{")


BROKEN = {
    "no record of rank 6 of 8": (Run(), _remove_rank),
    "is torn and cannot be read": (Run(), _tear),
    "is missing: its rank has said": (Run(), _remove_tensors),
    "mixes the ranks of several launches": (Run(), _other_launch),
    "is no record of a captured rank": (Run(), _no_record),
    "was given another batch than the recorded run in step 1": (Run(seed=9), lambda folder: None),
    "has 1 steps and the recording 2": (Run(steps=1), lambda folder: None),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_what_cannot_be_judged_is_one_sentence(sentence: str, single: Path, tmp_path: Path) -> None:
    run, damage = BROKEN[sentence]
    damage(by_hand.captured(tmp_path / "run", run))
    status, records, output = _judge(single, tmp_path / "run")
    assert (status, records) == (2, [])
    assert sentence in output
    assert "Traceback" not in output
    assert not (tmp_path / "run-results").exists()


def test_what_cannot_be_judged_is_one_row_among_those_that_can(single: Path, tmp_path: Path) -> None:
    right, wrong = by_hand.captured(tmp_path / "right", Run()), by_hand.captured(tmp_path / "wrong", Run(seed=9))
    torn = by_hand.captured(tmp_path / "torn", Run(mesh={"dp": 1, "tp": 4}))
    _no_record(torn)
    doubled = by_hand.captured(tmp_path / "doubled", Run(change=_doubled))
    status, records, output = _judge(single, wrong, right, tmp_path / "none", torn, doubled)
    assert status == 1
    said = {Path(record["implementation"]).name: record for record in records}
    verdicts = {"right": "pass", "doubled": "fail", "wrong": "error", "torn": "error", "none": "error"}
    assert {name: record["verdict"] for name, record in said.items()} == verdicts
    assert [said[name]["mesh"] for name in ("wrong", "torn")] == [by_hand.MESH, {"dp": 1, "tp": 4}]
    assert "was given another batch than the recorded run in step 1" in said["wrong"]["reason"]
    assert "is no record of a captured rank" in said["torn"]["reason"]
    assert "There is no captured run" in said["none"]["reason"]
    assert "Traceback" not in output
    assert (tmp_path / "wrong-results" / "report.html").is_file()


def test_a_launch_that_captures_nothing_is_one_row_among_those_that_do(single: Path, tmp_path: Path) -> None:
    right = by_hand.captured(tmp_path / "right", Run())
    launches = [f"{sys.executable} -c 'raise SystemExit(3)'", f"{sys.executable} -c 1", "no-such-command --tp 4"]
    words = [word for launch in launches for word in ("--launch", launch)]
    done = CliRunner().invoke(app, ["judge", str(single), str(right), *words, "--output", str(tmp_path / "results")])
    assert done.exit_code == 1
    assert "1 pass, 3 error" in done.stdout
    for said in ("ended with status 3", "captured nothing: put `with conformance.capture", "Cannot run 'no-such-comm"):
        assert said in done.stdout


def test_a_plain_run_is_no_recording(single: Path, tmp_path: Path) -> None:
    run = by_hand.captured(tmp_path / "run", Run())
    status, _, output = _judge(run, run)
    assert status == 2
    assert "is no recording: one run says nothing of rounding" in output


def test_a_script_that_draws_other_numbers_in_every_run_is_no_yardstick(tmp_path: Path) -> None:
    single = by_hand.recorded(tmp_path / "single", drawn=True)
    status, records, output = _judge(single, by_hand.captured(tmp_path / "run", Run(change=_doubled)))
    assert (status, records) == (2, [])
    assert "is no yardstick: most of what its first step makes differs by" in output


def test_where_shapes_leave_several_placements_one_sentence_asks(single: Path, tmp_path: Path) -> None:
    square = {"dp": 2, "tp": 2}
    run = by_hand.captured(tmp_path / "run", Run(mesh=square))
    status, _, output = _judge(single, run)
    assert status == 2
    assert "may be divided over 'dp' or over 'tp': say which with placements={'w': {'dp': 'S(1)'}}" in output

    def said(name: str) -> dict[str, str] | None:
        return {"tp": "S(1)"} if name.endswith("/w") or name == "outputs/model" else None

    status, [record], _ = _judge(single, by_hand.captured(tmp_path / "said", Run(mesh=square, says=said)))
    assert (status, record["verdict"]) == (0, "pass")
