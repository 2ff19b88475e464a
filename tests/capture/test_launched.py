"""A recorded command that breaks off is told with what it raised, and where all of its output is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conformance.capture.launch import LaunchFailed, launched
from conformance.capture.orders import Orders

RAISES = """
print("starting")
raise SystemExit('''TypeError: the branches differ.
--------------------
For simplicity, JAX has removed its internal frames from the traceback of the following exception.''')
"""


def test_the_last_words_of_a_command_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match="ended with status 1") as raised:
        launched([sys.executable, "-c", RAISES], tmp_path / "run", Orders())
    assert "TypeError: the branches differ.;" in str(raised.value)
    assert "For simplicity" not in str(raised.value).partition("ended with status")[2]
    assert "starting" in (tmp_path / "run.log").read_text()
