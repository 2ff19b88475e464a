"""A recorded command that breaks off is told with what it raised, and where all of its output is."""

from __future__ import annotations

import subprocess
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


CAPTURES = """
import jax.numpy as jnp
import conformance
with conformance.capture("run", model={"w": jnp.ones((2, 2))}):
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise SystemExit(1)", "the trainer broke off before its first step was over."),
        ("pass", "`seen.step` was not called."),
    ],
)
def test_a_capture_in_jax_without_a_step_says_why(body: str, said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{CAPTURES}    {body}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"Captured no step into run: {said}\n", done.stderr
