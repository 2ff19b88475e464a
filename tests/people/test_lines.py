"""Lines of user code: the table of the page is that of the examples, and the count is what it says that it is."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "examples" / "lines.py"

PROGRAM = '''"""A program."""

import torch

import conformance
from conformance import (
    Sharded,
)


class Own(conformance.Implementation):  # whole: 3 lines
    x = 1

    y = 2


def mine(x):
    """Documented,
    on two lines."""
    with conformance.capture(x) as seen:
        seen.loss(x)
        y = (x
             + 1)
    return Sharded(local=y)


def test_it():
    assert mine(1)
'''


def _counted(file: Path) -> tuple[int, int]:
    spec = spec_from_file_location("lines", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    counted: tuple[int, int] = module.counted(file)
    return counted


def test_what_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    ours = {"imports": 4, "the class": 3, "capture and loss": 2, "Sharded": 1, "the test": 2}
    others = {"import torch": 1, "def mine": 1, "y": 2}
    assert _counted(file) == (sum(ours.values()) + sum(others.values()), sum(ours.values()))


@pytest.mark.parametrize("without", ["import conformance\n", "    seen.loss(x)\n"])
def test_a_line_less_is_a_line_less(tmp_path: Path, without: str) -> None:
    file, other = tmp_path / "program.py", tmp_path / "other.py"
    file.write_text(PROGRAM)
    other.write_text(PROGRAM.replace(without, ""))
    assert _counted(file)[0] - _counted(other)[0] == 1


def test_the_table_of_the_page_is_that_of_the_examples() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=True)
    assert done.stdout in (ROOT / "docs" / "ways-in.md").read_text()
