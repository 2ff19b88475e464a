"""What is logged: nothing unless it is asked for, then the reasons of all processes in one file."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

from conformance import LOG
from conformance.workers.folder import LOCK, PREFIX, remove_abandoned

SCRIPT = """
import os, tempfile
from pathlib import Path
from conformance.workers.folder import LOCK, PREFIX, remove_abandoned
tempfile.tempdir = os.getcwd()
(Path(PREFIX + "1") / LOCK).mkdir(parents=True)
remove_abandoned()
"""


def test_it_is_quiet_by_default(tmp_path: Path) -> None:
    done = _run(tmp_path, {name: value for name, value in os.environ.items() if name != LOG})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_file_that_is_named_has_the_reason(tmp_path: Path) -> None:
    done = _run(tmp_path, {**os.environ, LOG: str(tmp_path / "reasons.log")})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    said = (tmp_path / "reasons.log").read_text()
    assert f"shardproof.workers: '{tmp_path / PREFIX}1' is left where it is." in said
    assert "IsADirectoryError" in said


def test_a_handler_of_the_caller_hears_it(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"{PREFIX}1" / LOCK).mkdir(parents=True)
    with caplog.at_level(logging.DEBUG, "shardproof"):
        remove_abandoned()
    assert "is left where it is" in caplog.text


def _run(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
