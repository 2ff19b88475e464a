"""The JAX part of the page `docs/your-trainer.md`: its commands as they stand there, and faults in its trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
from page import JAX, MATRIX, done, judged

FAULTS = {"output-not-reduced": "tensor", "bias-per-rank": "tensor", "gradient-not-averaged": "data"}


@pytest.fixture(scope="module")
def jax_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jax")
    record, capture, judge = JAX
    assert "the oracle in float64, 5 members in float32" in done(record, folder)
    assert "Captured 3 steps into runs/tp4" in done(capture, folder)
    said = done(judge, folder)
    assert "The oracle is the single-device run in float64; the yardstick are 5 runs in float32" in said
    assert "1 pass - all as expected" in said
    return folder


def test_two_processes_of_one_mesh_pass(jax_runs: Path) -> None:
    line = JAX[1].replace("runs/tp4", "runs/two") + " --processes 2 --port 6137"
    together = f"{line} --process 1 & {line} --process 0 && wait $!"
    done(together, jax_runs)
    [record] = judged(jax_runs, "runs/two")
    assert record["verdict"] == "pass"
    assert all(check["compared"] for check in record["checks"] if check["verdict"] == "pass")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_explicit_collectives_is_killed_and_its_axis_named(fault: str, jax_runs: Path) -> None:
    done(JAX[1].replace("--tensor 4 --folder runs/tp4", f"--tensor 3 --folder runs/{fault} --fault {fault}"), jax_runs)
    [record] = judged(jax_runs, f"runs/{fault}")
    [first, *_] = [check for check in record["checks"] if check["verdict"] == "fail"]
    assert record["verdict"] == "fail"
    assert first["diagnosis"][0]["axis"] == FAULTS[fault]


def test_one_command_launches_several_meshes_and_prints_one_table(jax_runs: Path) -> None:
    [matrix] = MATRIX
    said = done(matrix, jax_runs)
    table = [line.split() for line in said.splitlines() if line.startswith("matrix-runs/")]
    assert [row[1:4] for row in table[:2]] == [
        ["data=1,tensor=2", "float32", "pass"],
        ["data=3,tensor=1", "float32", "pass"],
    ]
