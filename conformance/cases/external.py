"""Outsiders: an implementation given as `file.py:Class`, looked at in a process of its own before the run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from conformance.cases.importing import environment, module_at, take_folders
from conformance.cases.usage import UsageError, choose
from conformance.contract.implementation import FRAMEWORKS, Framework

_OUTSIDER = re.compile(r"(?P<file>.*\.py):(?P<cls>\w+)")
METHODS = ("place", "step", "collect")
SECONDS = 120.0


def is_external(name: str) -> bool:
    """`./mine.py:MyMLP` rather than a registered name."""
    return ".py" in name or "/" in name or ":" in name


@cache
def framework_of(name: str) -> Framework:
    """The framework that the class declares; UsageError in one sentence if the class cannot be used."""
    match = _OUTSIDER.fullmatch(name)
    if match is None:
        raise UsageError(f"Cannot read the implementation '{name}': write file.py:Class, for example ./mine.py:MyMLP.")
    if not Path(match["file"]).is_file():
        raise UsageError(f"There is no file '{match['file']}' with the implementation {match['cls']}.")
    answer = _look(match["file"], match["cls"])
    if "wrong" in answer:
        raise UsageError(answer["wrong"])
    return choose("framework", answer["framework"], FRAMEWORKS)


def _look(file: str, cls: str) -> dict[str, str]:
    """Import the file in another process: this one stays free of frameworks, and survives whatever the file does."""
    command = [sys.executable, "-P", "-m", "conformance.cases.external", file, cls]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment())
    except subprocess.TimeoutExpired:
        return {
            "wrong": f"The implementation file '{file}' does not import: it was still busy after {SECONDS:.0f} seconds."
        }
    try:
        value: dict[str, str] = json.loads(done.stdout.rpartition("\x1e")[2])
        return value
    except ValueError:
        return {
            "wrong": f"The implementation file '{file}' ends the process that imports it (status {done.returncode})."
        }


def inspect(file: str, name: str) -> dict[str, str]:
    """Import the file here and look at the class: its framework, or what is wrong with it."""
    try:
        module = module_at(Path(file))
    except BaseException as failure:
        what = " ".join(str(failure).split()) or "no message"
        return {
            "wrong": f"The implementation file '{file}' does not import: {type(failure).__name__}: {what.rstrip('.')}."
        }
    candidate = getattr(module, name, None)
    if not isinstance(candidate, type):
        return {"wrong": f"'{file}' has no class '{name}': it has {', '.join(_classes(module)) or 'no class at all'}."}
    missing = [method for method in METHODS if not callable(getattr(candidate, method, None))]
    missing = missing or sorted(getattr(candidate, "__abstractmethods__", ()))
    if missing:
        lacks = " and ".join(missing)
        return {"wrong": f"The class '{name}' in '{file}' lacks {lacks}: it needs place, step and collect."}
    framework = getattr(candidate, "framework", None)
    if framework not in FRAMEWORKS:
        return {"wrong": f"The class '{name}' in '{file}' must say framework = \"jax\" or framework = \"torch\"."}
    return {"framework": framework}


def _classes(module: ModuleType) -> list[str]:
    own = (value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__)
    return [value.__name__ for value in own if isinstance(value, type)]


if __name__ == "__main__":
    take_folders()
    answer = json.dumps(inspect(sys.argv[1], sys.argv[2]))
    print(f"\x1e{answer}")  # a record separator: whatever the file printed itself stands before it
