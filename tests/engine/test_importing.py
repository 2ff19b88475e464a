"""Somebody's own files: imported as the modules that they are, and never in place of a standard module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import conformance
from conformance.cases.importing import FOLDERS, environment, module_at
from conformance.cases.raised import sentence, stack
from conformance.inline.located import where
from conformance.workers.lookup import load

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch):
    """Paths and modules are put back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        del sys.modules[name]


def written(folder: Path, **files: str) -> Path:
    """Files by names with __ for / and without .py."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_relative_import_in_a_package_works(tmp_path: Path) -> None:
    written(tmp_path, net__helpers="VALUE = 3", net__block="from .helpers import VALUE")
    (tmp_path / "net" / "__init__.py").write_text("")
    assert module_at(tmp_path / "net" / "block.py").VALUE == 3
    assert "net.block" in sys.modules


@pytest.mark.parametrize("package", [True, False])
def test_so_it_does_where_the_name_of_the_package_is_taken(tmp_path: Path, package: bool) -> None:
    """With and without __init__.py: an installed package of the name, a standard one, one in another folder."""
    for number, name in enumerate(("json", "numpy", "twin", "twin")):
        folder = written(tmp_path / str(number), **{f"{name}__helpers": f"VALUE = {number}"})
        written(folder, **{f"{name}__sub__block": "from ..helpers import VALUE"})
        if package:
            (folder / name / "__init__.py").write_text("")
            (folder / name / "sub" / "__init__.py").write_text("")
        assert number == module_at(folder / name / "sub" / "block.py").VALUE
    import json

    assert json.loads("1") == 1


def test_a_source_folder_and_absolute_imports(tmp_path: Path) -> None:
    written(tmp_path, src__own__part__model="from own.sizes import SIZE", src__own__sizes="SIZE = 5")
    for folder in ("own", "own/part"):
        (tmp_path / "src" / folder / "__init__.py").write_text("")
    assert module_at(tmp_path / "src/own/part/model.py").SIZE == 5


def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    first, second = (written(tmp_path / name, mine=f"NAME = '{name}'") / "mine.py" for name in "ab")
    assert [module_at(first).NAME, module_at(second).NAME, module_at(first).NAME] == ["a", "b", "a"]
    assert [module_at(first, "mine").NAME, module_at(second, "mine").NAME] == ["a", "b"]


def test_a_module_imported_under_its_name_is_that_module(tmp_path: Path) -> None:
    written(tmp_path, spaces__inner__own="def function():\n    return 1")
    sys.path.insert(0, str(tmp_path))
    from spaces.inner.own import function  # type: ignore[import-not-found]

    assert where(function).startswith("spaces.inner.own@/")
    assert load(where(function)) is function


def test_what_is_not_there_under_its_name_is_refused(tmp_path: Path) -> None:
    written(tmp_path, other="def function():\n    return 1\n\ndef outer():\n    return lambda: 2")
    module = module_at(tmp_path / "other.py")
    old, module.function = module.function, lambda: 3
    for function, part in ((old, "is not what its module"), (module.outer(), "top level"), (print, "top level")):
        with pytest.raises(ValueError, match=part) as refusal:
            where(function)
        assert str(refusal.value).endswith(".")


def test_a_file_named_like_a_standard_module_is_not_imported_by_ours(tmp_path: Path) -> None:
    """Neither by the process that calls us, whose own imports stay its own, nor by those that it starts."""
    names = ("queue", "subprocess", "tempfile", "socket", "multiprocessing", "logging")
    written(tmp_path, **{name: f"OWN = '{name}'" for name in names})
    script = """
import queue
import conformance
from conformance.cases.importing import environment, standard_first
assert callable(conformance.check)
with standard_first():
    import conformance.runner.run, conformance.workers.pool
    from queue import Queue
    import subprocess, sys
    code = "import queue, tempfile; from conformance.cases.importing import take_folders; take_folders(); "
    code += "queue.Queue, tempfile.mkdtemp; import socket; socket.socket; import mine"
    subprocess.run([sys.executable, "-P", "-c", code], env=environment(), check=True)
assert queue.OWN == "queue"
import logging, tempfile
assert logging.OWN == "logging"
assert tempfile.OWN == "tempfile"
"""
    written(tmp_path, script=script, mine="")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "conformance.cli.main", "list", "suites"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_our_processes_hear_of_all_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "bad", queue="")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'good'}:{tmp_path / 'bad'}")
    sys.path.insert(0, str(tmp_path / "bad"))
    variables = environment()
    assert str(tmp_path / "good") in variables["PYTHONPATH"]
    assert str(tmp_path / "bad") not in variables["PYTHONPATH"]
    assert variables[FOLDERS].startswith(str(tmp_path / "bad"))


def test_an_error_names_their_own_line_first_and_ours_last(tmp_path: Path) -> None:
    written(tmp_path, broken="def function():\n    return [][3]")
    try:
        load(f"{tmp_path / 'broken.py'}:function")()
    except IndexError as failure:
        said, told = sentence(failure), stack(failure)
    assert said.startswith("IndexError: list index out of range (at ")
    assert "broken.py:2, `return [][3]`" in said
    assert told.index("broken.py") < told.index("Called by shardproof") if "Called by" in told else "broken.py" in told


INSTALLED = f"""
import sys
sys.path.insert(1, {str(ROOT)!r})  # as installed, without the finder of an editable install
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
from conformance.cases.suite import suites
from conformance.cases.usage import UsageError
from conformance.workers.lookup import LookupFailed, load
"""


def printed(folder: Path, code: str) -> str:
    command = [sys.executable, "-c", INSTALLED + code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["suites", "reference"])
def test_a_package_with_the_name_of_one_of_ours_does_no_harm(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise ValueError('theirs')")
    names = ["collectives", "data", "hybrid", "memory", "moe", "pipeline", "sequence", "tensor"]
    assert printed(tmp_path, "print(*suites())").split() == names
    assert printed(tmp_path, "print(load('suites.tensor.matrix:__name__'))") == "suites.tensor.matrix\n"


@pytest.mark.parametrize("name", ["suites", "reference"])
def test_where_both_are_needed_one_sentence_names_theirs(tmp_path: Path, name: str) -> None:
    written(tmp_path, mine=f"from {name}.own import VALUE", **{f"{name}__own": "VALUE = 3"})
    (tmp_path / name / "__init__.py").write_text("")
    assert printed(tmp_path, "print(load('mine:VALUE'))") == "3\n", "ours is not needed"
    said = printed(tmp_path, "load('mine:VALUE')\ntry: suites()\nexcept UsageError as wrong: print(wrong)")
    assert f"The package '{name}' is imported from {tmp_path / name}, which shadows ours" in said
    said = printed(tmp_path, "suites()\ntry: load('mine:VALUE')\nexcept LookupFailed as wrong: print(wrong)")
    assert f"The package '{name}' is ours, which shadows the one in {tmp_path}: rename that." in said


def test_every_public_name_is_there() -> None:
    assert all(getattr(conformance, name) is not None for name in conformance.__all__)
