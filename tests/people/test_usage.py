"""The command line itself: one sentence for every wrong use, the version, and how little it imports."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from people_records import ONE, one_case, passing, write

from conformance import ShardproofError
from conformance.cases.suite import suites
from conformance.cases.usage import UsageError
from conformance.contract.mesh import MeshError
from conformance.records.files import WriteFailed
from conformance.records.recorder import read
from conformance.workers.connections import WorkerFailed

CLASS_WITHOUT_STEP = """
from conformance import Implementation

class Mine(Implementation):
    framework = "jax"
    def place(self, parameters, mesh): ...
    def collect(self, state): ...
"""


def test_what_the_engine_refuses_is_one_sentence_too(shardproof, monkeypatch, here: Path) -> None:
    def refuse(cases, **rest):
        raise UsageError("The parameter 'up.weight' of the contract tensor/mlp is not finite.")

    monkeypatch.setattr("conformance.cli.run.run_cases", refuse)
    done = shardproof("run", *ONE, "--output", "out")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "The parameter 'up.weight' of the contract tensor/mlp is not finite.\n"


@pytest.mark.parametrize(
    ("status", "kind"), [(2, ShardproofError), (2, MeshError), (1, WriteFailed), (1, WorkerFailed)]
)
def test_whatever_shardproof_raises_is_its_sentence(shardproof, monkeypatch, kind: type, status: int) -> None:
    def fail(cases, **rest):
        raise kind("The disk is full.")

    monkeypatch.setattr("conformance.cli.run.run_cases", fail)
    done = shardproof("run", *ONE, "--output", "out")
    assert (done.exit_code, done.stdout) == (status, "")
    assert done.stderr.startswith("The disk is full.")


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("run", *ONE, "--dtype", "float32"), "--dtype"),
        (("run", "--seed", "1", "--seed", "1"), "--seed"),
        (("qualify", "run", "--framework", "jax", "--framework", "torch"), "--framework"),
        (("judge", "runs/single", "--output", "a", "--output", "b"), "--output"),
        (("record", "--runs", "2", "--runs", "3", "--", "python", "train.py"), "--runs"),
    ],
)
def test_an_option_of_one_value_is_given_once(shardproof, here: Path, words: tuple[str, ...], option: str) -> None:
    done = shardproof(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"{option} is given 2 times and holds one value: give it once.\n"


def test_options_of_several_values_and_those_behind_a_command_are_taken_as_they_are(shardproof, fake_run) -> None:
    assert shardproof("run", *ONE, "--check", "logic", "--check", "census").exit_code == 0
    done = shardproof("record", "--runs", "1", "--", "python", "train.py", "--runs", "2", "--runs", "3")
    assert "holds one value" not in done.stderr


def test_parameters_that_are_no_numbers(shardproof, fake_run, monkeypatch) -> None:
    contract = suites()["tensor"].contract("tensor/mlp")
    monkeypatch.setitem(contract.__dict__, "parameters", lambda seed: {"up.weight": np.array([1.0, np.nan])})
    done = shardproof("run", *ONE)
    assert done.exit_code == 2
    assert done.stderr == "The parameter 'up.weight' of tensor/mlp with seed 0 has values that are not finite.\n"
    assert fake_run.cases == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "tensr"], "Unknown suite 'tensr'"),
        (["run", "--mesh", "tensr=4"], "Unknown mesh axis 'tensr'"),
        (["run", "--mesh", "tensor=100000"], "devices"),
        (["run", "--contract", "tensor/nothing"], "Unknown contract"),
        (["run", "--implementation", "nobody"], "Unknown implementation"),
        (["run", "--framework", "mxnet"], "Unknown framework"),
        (["run", "--profile", "everything"], "Unknown profile"),
        (["run", "--dtype", "int4"], "Unknown dtype"),
        (["run", "--check", "vibes"], "Unknown check"),
        (["run", "--devices", "quantum"], "Unknown kind of devices"),
        (["run", *ONE, "--check", "numerics"], "applies to none"),
        (["run", "--resume", "nowhere"], "no results directory 'nowhere'"),
        (["run", "--resume", "ours", "--output", "other"], "leave out --output"),
        (["run", *ONE, "--output", "ours"], "already holds results"),
        (["run", *ONE, "--output", "theirs"], "holds other files"),
        (["run", *ONE[:2], "--implementation", "gone.py:Mine", "--mesh", "tensor=2"], "There is no file 'gone.py'"),
        (["run", *ONE[:2], "--implementation", "broken.py:Mine", "--mesh", "tensor=2"], "does not import: SyntaxError"),
        (["run", *ONE[:2], "--implementation", "raises.py:Mine", "--mesh", "tensor=2"], "ZeroDivisionError"),
        (["run", *ONE[:2], "--implementation", "exits.py:Mine", "--mesh", "tensor=2"], "ends the process"),
        (["run", *ONE[:2], "--implementation", "nostep.py:Mine", "--mesh", "tensor=2"], "lacks step"),
        (["run", *ONE[:2], "--implementation", "nostep.py:Other", "--mesh", "tensor=2"], "has no class 'Other'"),
        (["report", "theirs"], "is no results directory"),
        (["report", "nowhere"], "no results directory"),
        (["compare", "ours", "theirs"], "is no results directory"),
        (["explain", "tensor/mlp["], "is no case id"),
        (["explain", "tensor/mpl"], "Unknown contract"),
        (["explain", "tensor/none[jax-shard_map-tensor2-float64]"], "Unknown contract"),
        (["explain", "tensor/mlp[nobody-tensor2-float64]"], "Unknown implementation"),
        (["list", "planets"], "suites, contracts"),
        (["power", "tensr"], "Unknown suite"),
        (["run", *ONE, "--timeout", "0"], "leaves no time"),
        (["run", *ONE, "--timeout", "-3"], "leaves no time"),
        (["run", *ONE, "--workers", "0"], "0 workers run nothing"),
        (["run", *ONE[:4], "--mesh", ""], "mesh"),
        (["list", "cases", "--suite", "tensr"], "Unknown suite"),
        (["list", "cases", "--profile", "everything"], "Unknown profile"),
        (["list", "cases", "--contract", "tensor/nothing"], "Unknown contract"),
        (["list", "faults", "--profile", "core"], "have no profile"),
        (["run", "--colour"], "No such option"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(
    shardproof, fake_run, here: Path, words: list[str], said: str
) -> None:
    write(here / "ours", [passing(one_case())])
    (here / "theirs").mkdir()
    (here / "theirs" / "notes.txt").write_text("mine")
    (here / "broken.py").write_text("def (")
    (here / "raises.py").write_text("1 / 0")
    (here / "exits.py").write_text("import os\nos._exit(3)")
    (here / "nostep.py").write_text(CLASS_WITHOUT_STEP)
    done = shardproof(*words)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if "--colour" not in words:  # the parser of options says it in its own way
        assert done.stderr.count("\n") == 1
        assert done.stderr.endswith(".\n")
    assert len(read(here / "ours").records) == 1
    assert (here / "theirs" / "notes.txt").read_text() == "mine"
    assert not (here / "shardproof-results").exists()


def test_the_version_is_said(shardproof) -> None:
    from conformance.records import environment

    done = shardproof("--version")
    assert (done.exit_code, done.stdout) == (0, f"shardproof {environment.packages()['shardproof']}\n")


SCRIPT = """
import sys
from typer.testing import CliRunner
from conformance.cli.main import app
for words in (["--help"], ["list", "cases"], ["explain", "tensor/mlp[jax-shard_map-tensor2-float64]"]):
    assert CliRunner().invoke(app, words).exit_code == 0, words
import conformance.cli.run, conformance.report, conformance.report.compare, conformance.runner.run
import conformance.pytest_plugin
print([name for name in ("jax", "torch", "flax") if name in sys.modules])
"""


def test_the_main_process_imports_no_framework() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_command_line_imports_next_to_nothing() -> None:
    names = ("numpy", "pydantic", "rich", "jinja2")
    script = f"import conformance.cli.main, sys; print([m for m in {names} if m in sys.modules])"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]"
    assert time.perf_counter() - started < 5.0  # 0.2 s on an idle machine
