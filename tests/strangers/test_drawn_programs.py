"""Programs drawn at random: what is right passes, a relative error of 1e-11 does not, and they are counted so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from conformance.contract.implementation import FRAMEWORKS
from conformance.programs.judged import Judged, judge
from conformance.programs.program import Program, draw, drawn
from conformance.programs.table import counts, page, write, wrong
from conformance.workers.pool import Workers

MEANS = Path(__file__).parent / "kinds" / "means_jax.py"
CHOSEN = (
    34,
    35,
    24,
    47,
    0,
    28,
)  # seeds: one of each kind, every dtype, most of one feature: rows in any order give the same


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers() as warm:
        yield warm


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("seed", CHOSEN)
def test_a_right_program_passes_and_an_error_is_caught(workers: Workers, framework: str, seed: int) -> None:
    if find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    program = draw(seed, framework)
    right, *planted = judge(program, workers)
    assert right.passed, right.said
    assert [plant.passed for plant in planted] == [False] * (program.dtype == "float64")
    assert all("is off by" in plant.said for plant in planted)


def test_the_chosen_seeds_are_of_every_kind_and_dtype() -> None:
    assert len({draw(seed, "jax").kind for seed in CHOSEN}) == len(CHOSEN)
    assert len({draw(seed, "jax").dtype for seed in CHOSEN}) == 4


def test_a_right_mean_in_float64_passes_for_every_seed() -> None:
    pytest.importorskip("jax")
    done = subprocess.run([sys.executable, str(MEANS)], capture_output=True, text=True, timeout=280, check=False)
    verdicts = [text.split("\n")[0].split()[-1] for text in done.stdout.split("\x1e")[1:]]
    assert verdicts == ["pass"] * 24, done.stdout + done.stderr


def test_both_frameworks_write_the_same_programs() -> None:
    jax, torch = drawn(100, "jax"), drawn(101, "torch")
    assert [replace(program, framework="torch") for program in jax] == torch
    assert len(drawn(101, "jax")) == 51
    assert {(program.kind, program.mesh) for program in drawn(2000, "jax")} == {
        (kind, mesh) for kind in {program.kind for program in jax} for mesh in {program.mesh for program in jax}
    }


def test_the_terms_are_divided_evenly_and_lie_within_their_bounds() -> None:
    for program in drawn(400, "torch"):
        assert 2 <= program.terms <= 10_000
        parameters, batch = program.arrays()
        assert batch["x"].shape == (program.terms, program.features)
        assert program.spoiled in parameters


def _found(passed: bool, ratio: float, planted: bool = False, **changes: object) -> Judged:
    program: Program = replace(draw(0, "jax"), dtype="float64", **changes)
    return Judged(program=program, planted=planted, passed=passed, ratio=ratio, said="it said so")


def test_false_alarms_and_missed_errors_are_counted_and_named(tmp_path: Path) -> None:
    judged_programs = [
        _found(True, 0.25),
        _found(False, 1.5, terms=4),
        _found(False, 90.0, True),
        _found(True, 0.5, True, terms=6),
    ]
    [count] = counts(judged_programs)
    assert (count.programs, count.false_alarms, count.planted, count.caught) == (2, 1, 2, 1)
    assert (count.largest, count.smallest) == (1.5, 0.5)
    assert wrong(judged_programs) == [judged_programs[1], judged_programs[3]]
    write(judged_programs, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"programs.json", "programs.md", "programs.svg"}
    text = page(judged_programs)
    assert "2 right programs through the checks of `conformance.check`: 1 false alarms." in text
    assert "1 of 2 (50.0 %) caught" in text
    assert text.count("it said so") == 2
