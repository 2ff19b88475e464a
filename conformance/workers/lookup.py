"""Lookup: from the names in a job to objects, inside a worker (the main process imports no framework)."""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from conformance import inline
from conformance.cases import suites
from conformance.contract import Contract
from conformance.workers.jobs import Job

METHODS = ("place", "step", "collect")


class LookupFailed(Exception):  # noqa: N818
    """A name that leads nowhere; the message is one sentence for the person who wrote it."""


@cache
def load(path: str) -> Any:
    """The object at 'module:name' or '/path/file.py:name'. Raises LookupFailed."""
    where, _, name = path.rpartition(":")
    try:
        module = _from_file(Path(where).resolve()) if where.endswith(".py") else import_module(where)
    except Exception as failure:
        message = " ".join(str(failure).split()).rstrip(".")
        raise LookupFailed(f"'{where}' does not import: {type(failure).__name__}: {message}.") from failure
    if not hasattr(module, name):
        raise LookupFailed(f"'{where}' has no '{name}'.")
    return getattr(module, name)


def _from_file(path: Path) -> ModuleType:
    """A file as a module; its folder is on the path, as if it had been run. Its name shadows no other module."""
    name = f"{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@cache
def contract(name: str) -> Contract:
    """A suite's contract by name, that of `conformance.check`, or any object at 'module:name'."""
    if name.startswith(inline.PREFIX):
        return inline.contract(name)
    if ":" in name:
        return load(name)
    name, _, feature = name.partition("~")
    if feature:
        return contract(name).without(feature)
    suite = suites().get(name.partition("/")[0])
    known = {one.name: one for one in suite.contracts} if suite is not None else {}
    if name not in known:
        raise LookupFailed(f"No installed suite has the contract '{name}'.")
    return known[name]


def implementation_class(job: Job) -> type:
    """The class of a job, with the mixin of its fault in front."""
    found = load(job.target)
    if not isinstance(found, type):
        raise LookupFailed(f"'{job.target}' is a {type(found).__name__}, not a class.")
    missing = [method for method in METHODS if not callable(getattr(found, method, None))]
    missing = missing or sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise LookupFailed(f"'{job.target}' lacks {' and '.join(missing)}: an implementation has {', '.join(METHODS)}.")
    fault = getattr(job, "fault", None)
    return found if fault is None else type(found.__name__, (load(fault), found), {})
