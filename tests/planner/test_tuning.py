"""Tuning: candidates in turn, every measurement kept, resumed, and noise named where it decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.cases.plan_file import read_plan
from conformance.planner.asking import Asked, question
from conformance.planner.search import predicted
from conformance.planner.tuning import MOST_CANDIDATES, Measurement, Tuned, tuned
from suites.planning.tuned_here import ratio

ASKED = question(Asked(model="55M", devices=4, memory="2GiB", rows=4, length=16))
FITTING = predicted(ASKED)
Seconds = Callable[[str, int], float]


class Machine:
    """Stands for the steps of a plan: seconds by mesh and round; a clock that each measurement moves by a second."""

    def __init__(self, seconds: Seconds) -> None:
        self.seconds, self.now, self.asked = seconds, 0.0, list[str]()

    def monotonic(self) -> float:
        return self.now

    def steps(self, path: Path, steps: int, timeout: float) -> tuple[float, ...] | None:
        mesh = read_plan(path).mesh
        self.now += 1
        self.asked.append(mesh)
        return (self.seconds(mesh, self.asked.count(mesh)),) * steps


def run(
    machine: Machine, kept: Path, monkeypatch: pytest.MonkeyPatch, rounds: float = 3, candidates: int = MOST_CANDIDATES
) -> Tuned:
    monkeypatch.setattr("conformance.planner.tuning.steps_here", machine.steps)
    monkeypatch.setattr("conformance.planner.tuning.time.monotonic", machine.monotonic)
    return tuned(ASKED, FITTING, candidates * rounds / 60, kept, lambda sentence: None)


def test_candidates_are_measured_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(lambda mesh, number: 1.0)
    tuning = run(machine, tmp_path / "kept.jsonl", monkeypatch)
    assert len({each.estimate.layout.mesh for each in tuning.candidates}) == len(tuning.candidates) == MOST_CANDIDATES
    rounds = [machine.asked[i : i + MOST_CANDIDATES] for i in range(0, len(machine.asked), MOST_CANDIDATES)]
    assert all(len(set(each)) == MOST_CANDIDATES for each in rounds)


def test_the_fastest_here_beside_what_the_model_prefers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = str(run(Machine(lambda mesh, number: 1.0), tmp_path / "a", monkeypatch).candidates[-1].estimate.layout.mesh)
    tuning = run(Machine(lambda mesh, number: 0.5 if mesh == last else 1.5), tmp_path / "b", monkeypatch)
    assert str(tuning.measured[0].estimate.layout.mesh) == last
    assert tuning.untuned.seconds / tuning.measured[0].seconds == pytest.approx(3)
    assert not tuning.noise_decides


def test_noise_that_decides_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = run(Machine(lambda mesh, number: 1 + 0.1 * (number % 2) + 1e-3 * len(mesh)), tmp_path / "k", monkeypatch)
    assert tuning.noise_decides


def test_one_round_shows_no_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(Machine(lambda mesh, number: float(len(mesh))), tmp_path / "k", monkeypatch, rounds=1).noise_decides


def test_what_was_measured_before_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept.jsonl"
    run(Machine(lambda mesh, number: 1.0), kept, monkeypatch, rounds=2)
    lines = kept.read_text(encoding="utf-8").splitlines()
    tuning = run(Machine(lambda mesh, number: 2.0), kept, monkeypatch, rounds=1)
    assert kept.read_text(encoding="utf-8").splitlines()[: len(lines)] == lines
    assert all(each.rounds == (1.0, 1.0, 2.0) for each in tuning.candidates)


def test_a_line_that_was_cut_off_is_no_round_and_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept.jsonl"
    run(Machine(lambda mesh, number: 1.0), kept, monkeypatch, rounds=1)
    whole = kept.read_text(encoding="utf-8")
    kept.write_text(whole[:-9], encoding="utf-8")
    tuning = run(Machine(lambda mesh, number: 2.0), kept, monkeypatch, rounds=1)
    assert sum(len(each.rounds) for each in tuning.candidates) == 2 * MOST_CANDIDATES - 1
    lines = kept.read_text(encoding="utf-8").splitlines()
    assert lines[: MOST_CANDIDATES - 1] == whole.splitlines()[:-1]
    assert [Measurement.model_validate_json(line) for line in lines]


def test_another_version_of_the_program_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept.jsonl"
    run(Machine(lambda mesh, number: 1.0), kept, monkeypatch, rounds=1)
    monkeypatch.setattr("conformance.planner.tuning.content_hash", lambda: "another")
    tuning = run(Machine(lambda mesh, number: 2.0), kept, monkeypatch, rounds=1)
    assert all(each.rounds == (2.0,) for each in tuning.candidates)
    assert len(kept.read_text(encoding="utf-8").splitlines()) == 2 * MOST_CANDIDATES


def test_the_ratio_is_that_of_pairs_and_says_when_noise_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = str(run(Machine(lambda mesh, number: 1.0), tmp_path / "a", monkeypatch).candidates[-1].estimate.layout.mesh)
    tuning = run(Machine(lambda mesh, number: 0.5 if mesh == last else 1.5), tmp_path / "b", monkeypatch)
    assert "takes 3.00 times as long" in ratio(tuning, [(3.0, 1.0), (6.0, 2.0)])
    assert "noise decides" not in ratio(tuning, [(3.0, 1.0), (6.0, 2.0)])
    assert "0.90 to 1.20: noise decides" in ratio(tuning, [(0.9, 1.0), (1.2, 1.0)])


def test_time_that_was_up_before_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(lambda mesh, number: 1.0)
    monkeypatch.setattr(machine, "steps", lambda path, steps, timeout: None)
    tuning = run(machine, tmp_path / "kept.jsonl", monkeypatch)
    assert not tuning.measured
    assert not (tmp_path / "kept.jsonl").exists()
