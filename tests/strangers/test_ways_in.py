"""Both ways in, as a stranger would use them: the examples of the docs are run, and broken, as they stand."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
COMMAND = [sys.executable, "-m", "conformance.cli.main"]


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "run", *arguments, "--output", str(folder / "results")]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280, check=False)


def _documented() -> list[str]:
    """The arguments of the `shardproof run` line in the page."""
    page = (ROOT / "docs" / "your-implementation.md").read_text()
    [line] = re.findall(r"^shardproof run (.*)$", page, re.MULTILINE)
    return line.split()


def test_an_implementation_of_ones_own_conforms(tmp_path: Path) -> None:
    done = _run([*_documented(), "--dtype", "float64"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 pass" in done.stdout


def test_a_bug_in_it_is_found_named_and_reproduced(tmp_path: Path) -> None:
    source = (EXAMPLES / "mlp_jax.py").read_text()
    broken = source.replace("y.shape[-1]), y", "2 * y.shape[-1]), y")
    assert broken != source
    (tmp_path / "mine.py").write_text(broken)
    mine = [word.replace("docs/examples/mlp_jax.py", str(tmp_path / "mine.py")) for word in _documented()]
    done = _run([*mine, "--dtype", "float64"], tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "step 1: loss" in done.stdout
    [record] = _records(tmp_path)
    again = tmp_path / "again"
    program, command, *arguments = shlex.split(record["reproduce"])
    assert (program, command) == ("shardproof", "run")
    assert _run(arguments, again).returncode == 1
    [repeated] = _records(again)
    assert [check["first"] for check in repeated["checks"]] == [check["first"] for check in record["checks"]]


def test_what_its_own_tests_would_have_missed_is_planted_and_seen(tmp_path: Path) -> None:
    """The command of the page, on a small mesh."""
    page = (ROOT / "docs" / "your-implementation.md").read_text()
    [line] = re.findall(r"^shardproof (power .*)$", page, re.MULTILINE)
    command = [*COMMAND, *line.split(), "--mesh", "data=2,tensor=2", "--output", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["verdict"] for row in rows if row["kind"] == "control"] == ["pass"]
    mutants = [row for row in rows if row["kind"] == "mutation"]
    assert len(mutants) > 5
    assert all(row["killed"] or row["equivalent"] or row["cannot_run"] for row in mutants)
    assert {row["contract"] for row in rows} == {"tensor/mlp"}
    assert "0 false alarms on 1 controls" in done.stderr


def _records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results" / "cases.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("example", sorted(file.name for file in EXAMPLES.glob("test_*.py")))
def test_a_function_of_ones_own_conforms(example: str) -> None:
    done = _pytest(EXAMPLES / example)
    assert done.returncode == 0, done.stdout


BUGS = {
    "jax": (
        'jax.lax.psum(jnp.tanh(x @ parameters["up"]) @ parameters["down"], "tensor")',
        'jax.lax.pmean(jnp.tanh(x @ parameters["up"]) @ parameters["down"], "tensor")',
    ),
    "torch": ('    dist.all_reduce(y, group=mesh.get_group("tensor"))\n', ""),
}


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_a_bug_in_the_function_is_found_and_named(framework: str, tmp_path: Path) -> None:
    source = (EXAMPLES / f"test_function_{framework}.py").read_text()
    right, wrong = BUGS[framework]
    assert right in source
    (tmp_path / "test_mine.py").write_text(source.replace(right, wrong))
    done = _pytest(tmp_path / "test_mine.py")
    assert done.returncode == 1
    assert re.search(r"likely: .* on axis tensor \(confidence 0\.\d+\)", done.stdout), done.stdout


def _pytest(file: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(file),
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        str(ROOT / "pyproject.toml"),
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=file.parent, timeout=280, check=False)
