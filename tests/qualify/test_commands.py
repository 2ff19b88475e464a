"""`shardproof qualify` as the page shows it; and without a framework, with a dirty tree, after a crash."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from conformance.cases.expectations import _read
from conformance.cli import qualification
from conformance.qualify.replay import replay
from conformance.qualify.tree import tree
from conformance.qualify.verify import of_flags
from conformance.records import environment
from conformance.records.check_record import CheckRecord
from conformance.records.recorder import read
from tests.qualify.conftest import RUN, Forger

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "qualification.md").read_text()


def block(name: str) -> str:
    """The block of the page that stands behind a comment."""
    [text] = re.findall(rf"<!-- {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return text


def test_the_dry_run_of_the_page(shardproof, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = block("dry run").splitlines()
    assert [shlex.split(line)[2] for line in lines] == ["run", "pack", "verify", "replay"]
    for line in lines:
        done = shardproof(*shlex.split(line)[1:])
        assert done.exit_code == 0, line + done.output
    assert "1 of 1 case agree" in done.stdout
    verified = shardproof("qualify", "verify", "rehearsal.zip").stdout
    [printed] = re.findall(r"`verify` prints:\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert " ".join(verified.split()).startswith(" ".join(printed.split()))


def test_the_expectations_of_the_page_are_read(tmp_path: Path) -> None:
    (tmp_path / "known.toml").write_text(block("expectations"))
    [entry] = _read(tmp_path / "known.toml")
    assert entry.verdict == "fail"


WITHOUT = """
import sys
for name in ("jax", "jaxlib", "flax", "torch"):
    sys.modules[name] = None  # not installed
from datetime import date
from pathlib import Path
from conformance.qualify.verify import verify
print(len(verify(Path(sys.argv[1])).records))
"""


def test_verifying_needs_no_framework(package: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(package)], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_it_goes_on_after_a_crash(shardproof, results: Path, tmp_path: Path) -> None:
    """The second case is gone and half a line is there, as a kill leaves it; nothing else needs to be said."""
    path = results / "cases.jsonl"
    first = path.read_bytes().splitlines()[0]
    path.write_bytes(first + b"\n" + first[:200])
    packed = (
        "qualify",
        "pack",
        results,
        "--vendor",
        "V",
        "--device",
        "D",
        "--stack",
        "S",
        "--output",
        tmp_path / "a.zip",
    )
    assert shardproof(*packed).exit_code == 1
    done = shardproof("qualify", "run", "--resume", results)
    assert done.exit_code == 0, done.output
    assert [len(record.checks) > 5 for record in read(results).records] == [True, True]
    refused = shardproof(*packed)
    assert "line 2 cannot be read" in refused.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["run", "--resume", "nowhere"], 2, "There is no results directory 'nowhere'."),
        (["run", "tensor", "--resume", "out"], 2, "leave out what else selects cases"),
        (["run", "tensr", "--devices", "emulated"], 2, "Unknown suite 'tensr'"),
        (["run", "collectives", "--devices", "emulated", "--most-devices", "1", "--rehearse"], 2, "fits on 1 devices"),
        (["pack", "nowhere", "--vendor", "V", "--device", "D", "--stack", "S", "--output", "x.zip"], 2, "nowhere"),
        (["pack", "nowhere", "--vendor", " ", "--device", "D", "--stack", "S", "--output", "x.zip"], 2, "--vendor:"),
        (["verify", "nowhere.zip"], 1, "'nowhere.zip' cannot be read: No such file or directory."),
        (["replay", "nowhere.zip", "--sample", "0"], 2, "A sample of 0 shows nothing"),
        (["replay", "nowhere.zip", "--devices", "dreamt"], 2, "Unknown kind of devices"),
    ],
)
def test_wrong_use_is_one_sentence(
    shardproof, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = shardproof("qualify", *words)
    assert (done.exit_code, done.stdout) == (status, ""), done.output
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def _inflated(check: CheckRecord) -> CheckRecord:
    """A yardstick ten times as large hides an error ten times as large."""
    figures = tuple(figure.model_copy(update={"yardstick": 10 * figure.yardstick}) for figure in check.figures)
    return check.model_copy(update={"figures": figures})


def _one_block_each(check: CheckRecord) -> CheckRecord:
    figures = tuple(figure.model_copy(update={"blocks": 1}) for figure in check.figures)
    return check.model_copy(update={"figures": figures, "compared": len(figures) or check.compared})


def _declined(check: CheckRecord) -> CheckRecord:
    none = {"verdict": "unsupported", "compared": 0, "not_held": "No."}
    return check.model_copy(update=none if check.check == "communication" else {})


def _less(check: CheckRecord) -> CheckRecord:
    return check.model_copy(update={"compared": 1} if check.check == "census" else {})


def _part(check: CheckRecord) -> CheckRecord:
    return check.model_copy(update={"not_held": "No."} if check.check == "memory" else {})


LIES = {
    _inflated: "has the yardstick",
    _one_block_each: "row blocks, recorded were 1.",
    _declined: "communication is pass, recorded was unsupported.",
    _less: "comparisons, recorded were 1.",
    _part: "memory is pass, recorded was pass, part of it not held.",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__.strip("_"))
def test_a_replay_that_disagrees_says_where(forger: Forger, lie: Callable[[CheckRecord], CheckRecord]) -> None:
    """What is written of a run that was made up; what whoever replays computes is not."""
    contents = forger.contents
    [record] = [record for record in contents.records if record.dtype == "bfloat16"]
    lies = record.model_copy(update={"checks": tuple(lie(check) for check in record.checks)})
    [row] = replay(replace(contents, records=(lies,)), 1, "emulated", qualification._run, Random(3))
    assert row.compared > 0
    assert any(LIES[lie] in said for said in row.disagreements), row


@pytest.mark.parametrize("words", [(), ("--devices", "emulated", "--rehearse"), ("--resume", "RESULTS")])
def test_flags_of_which_no_package_is_made_are_refused_before_anything_runs(
    shardproof, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    new = () if "--resume" in words else ("collectives", "--output", tmp_path / "out")
    before = (results / "cases.jsonl").read_bytes()
    done = shardproof("qualify", "run", *new, *(results if word == "RESULTS" else word for word in words))
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert "XLA_FLAGS = '--xla_cpu_enable_fast_math=true' changes what is computed. No package" in done.stderr
    assert not (tmp_path / "out").exists()
    assert (results / "cases.jsonl").read_bytes() == before


def test_the_number_of_host_devices_may_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    assert list(of_flags(environment.flags())) == []


def _git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def test_a_changed_tree_is_named(tmp_path: Path) -> None:
    assert "is no git checkout" in tree(tmp_path).complaint
    _git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("x = 1\n")
    _git(tmp_path, "add", "-A")
    _git(tmp_path, "commit", "-qm", "one")
    assert tree(tmp_path).complaint == ""
    (tmp_path / "sub").mkdir()
    assert "is no git checkout" in tree(tmp_path / "sub").complaint
    (tmp_path / "b.py").write_text("x = 2\n")
    assert "b.py differs from commit" in tree(tmp_path).complaint


def test_a_run_without_figures_is_not_packed(shardproof, results: Path, tmp_path: Path) -> None:
    run = read(results).run
    machine = {name: fact for name, fact in run.machine.items() if name != "accelerators"}
    (results / "run.json").write_text(run.model_copy(update={"machine": machine}).model_dump_json())
    claim = ("--vendor", "V", "--device", "D", "--stack", "S", "--output", tmp_path / "a.zip")
    done = shardproof("qualify", "pack", results, *claim)
    assert done.exit_code == 1
    assert "was not written by `shardproof qualify run`" in done.stderr
    assert not (tmp_path / "a.zip").exists()


def test_the_statement_in_json(shardproof, package: Path) -> None:
    done = shardproof("qualify", "verify", package, "--json")
    said = json.loads(done.stdout)
    assert (said["qualifies"], said["vendor"], said["scope"]["devices"]) == (False, "Acme", "emulated")
    assert RUN[0] == "qualify"
