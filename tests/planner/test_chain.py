"""One plan from choosing to measuring, each command in a process of its own, in a folder outside of the sources."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.cases.importing import environment
from conformance.cases.plan_file import PlanFile

COMMAND = "import sys; from conformance.cli.main import main; sys.exit(main())"
CHOSEN = ("55M", "--devices", "4", "--memory", "1GiB", "--rows", "8", "--length", "32", "--search", "fsdp", "--search",
          "tensor")  # fmt: skip

Shardproof = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def shardproof(folder: Path) -> Shardproof:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-c", COMMAND, *words]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=folder, timeout=280, check=False, env=environment()
        )

    return run


@pytest.fixture(scope="module")
def plan(shardproof: Shardproof, folder: Path) -> PlanFile:
    done = shardproof("plan", *CHOSEN, "--output", "mine.json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return PlanFile.model_validate_json((folder / "mine.json").read_text())


def test_it_is_checked_small(shardproof: Shardproof, plan: PlanFile) -> None:
    done = shardproof("run", "mine.json", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[0])
    assert (record["case"], record["verdict"]) == (plan.proof, "pass")


def test_it_is_compiled_large(shardproof: Shardproof, plan: PlanFile) -> None:
    done = shardproof("scale", "mine.json", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["plan"], record["mesh"], record["parameters"]) == ("mine", plan.mesh, plan.parameters)
    assert record["held_bytes"]["parameters"] == plan.predicted.parameter_bytes
    assert record["capacity_bytes"] == 2**30  # that of the plan, and not of its chip
    assert record["proof_verdict"] == "pass"


def test_it_is_measured_small_and_at_its_size(shardproof: Shardproof, plan: PlanFile, folder: Path) -> None:
    done = shardproof("profile", "mine.json", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["case"] == plan.proof
    assert record["seconds"]["step"] > 0
    assert any(f"At its size, {plan.mesh}:" in line for line in record["of_plan"])
    assert any("Measured at its size, on 4 emulated devices" in line for line in record["of_plan"])
    assert (folder / "shardproof-results/profile/trace.json").is_file()


def test_it_is_one_page(shardproof: Shardproof, plan: PlanFile, folder: Path) -> None:
    done = shardproof("report", "mine.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "mine.html"
    assert plan.asked in (folder / "mine.html").read_text()


def test_it_is_applied(shardproof: Shardproof, plan: PlanFile) -> None:
    done = shardproof("plan", "--apply", "mine.json", "--json")
    assert done.returncode == 0, done.stderr
    applied = json.loads(done.stdout)
    assert applied["holds"]
    assert applied["record"]["mesh"] == plan.mesh
    assert any("as the plan says" in line for line in applied["words"])


@pytest.mark.parametrize(
    "command", [("run",), ("scale",), ("profile",), ("report",), ("plan", "--apply")], ids=" ".join
)
def test_an_edited_file_is_one_sentence(
    command: tuple[str, ...], shardproof: Shardproof, plan: PlanFile, folder: Path
) -> None:
    (folder / "edited.json").write_text(plan.model_copy(update={"mesh": "fsdp=8"}).model_dump_json(), encoding="utf-8")
    done = shardproof(*command, "edited.json")
    assert done.returncode == 2
    assert "the mesh fsdp=8 has 8 devices and the plan is for 4; make a new plan" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout
