"""The main process: free of frameworks, whatever it runs, and able to run one framework without the other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.workers.pool import Workers
from tests.workers.conftest import HERE, job, needs

BOTH = """
import sys
from pathlib import Path
from conformance.workers.pool import Workers
from conformance.workers.jobs import ReferenceJob
from tests.workers.conftest import job, HERE
if __name__ == "__main__":
    with Workers() as workers:
        folder = workers._folder
        for framework in ("jax", "torch"):
            extras = dict(determinism=True, input_sensitivity=True, trace=True)
            outcome = workers.run(job(framework, "Right", dtype="bfloat16", **extras), 120)
            truth = ReferenceJob(contract=f"{HERE / 'tiny.py'}:CONTRACT", framework=framework, dtype="bfloat16", seed=0)
            print(framework, outcome.failure, workers.run(truth, 120).failure, outcome.reason)
    print("imported", [name for name in ("jax", "torch", "flax", "ml_dtypes") if name in sys.modules])
    print("left behind", folder.exists())
"""


def run(code: str, **environment: str) -> list[str]:
    path = os.pathsep.join([*environment.pop("first", "").split(), str(HERE.parent.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
        timeout=250,
        check=True,
    )
    return done.stdout.splitlines()


def test_cases_in_both_frameworks_import_neither_and_leave_no_folder() -> None:
    needs("jax", "torch")
    assert run(BOTH) == ["jax None None ", "torch None None ", "imported []", "left behind False"]


@pytest.mark.parametrize(("missing", "other"), [("jax", "torch"), ("torch", "jax")])
def test_without_one_framework_the_other_still_runs(missing: str, other: str, tmp_path: Path) -> None:
    """A module that raises ImportError, found first, stands for a package that is not installed."""
    needs(other)
    (tmp_path / f"{missing}.py").write_text("raise ImportError('it is not here')")
    answers = dict(line.split(" ", 1) for line in run(BOTH, first=str(tmp_path)))
    assert answers[other] == "None None "
    assert answers[missing] == f"unsupported unsupported {missing} cannot be imported: it is not here."


def test_programs_of_an_earlier_run_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And give the same bits; where the cache folder cannot be made, cases run all the same."""
    needs("jax")
    (tmp_path / "file").touch()
    losses = []
    for cache in ("kept", "kept", "file"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        with Workers() as workers:
            outcome = workers.run(job("jax", "Right"), 120)
        assert outcome.evidence is not None, outcome.reason
        losses.append([step["loss"].blocks[0].value.tobytes() for step in outcome.evidence.steps])
    assert losses[0] == losses[1] == losses[2]
    [folder] = (tmp_path / "kept" / "shardproof").iterdir()
    assert folder.name.startswith("jax-")
    assert any(entry.stat().st_size for entry in folder.iterdir())
