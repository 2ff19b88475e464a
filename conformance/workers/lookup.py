"""Lookup: from the names in a job to objects, inside a worker (the main process imports no framework)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

from conformance import inline
from conformance.cases import suites
from conformance.contract import Contract
from conformance.workers.jobs import CaseJob, SitesJob


@cache
def load(path: str) -> Any:
    """The object at 'module:name' or '/path/file.py:name'."""
    where, _, name = path.rpartition(":")
    module = _from_file(str(Path(where).resolve())) if where.endswith(".py") else importlib.import_module(where)
    return getattr(module, name)


@cache
def _from_file(path: str) -> Any:
    """A file as a module; its folder is on the path, as if it had been run."""
    name = Path(path).stem
    sys.path.insert(0, str(Path(path).parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"'{path}' is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@cache
def contract(name: str) -> Contract:
    """A suite's contract by name, that of `conformance.check`, or any object at 'module:name'."""
    if name.startswith(inline.PREFIX):
        return inline.contract(name)
    if ":" in name:
        return load(name)
    return suites()[name.partition("/")[0]].contract(name)


def implementation_class(job: CaseJob | SitesJob) -> type:
    """The class of a job, with the mixin of its fault in front."""
    found = load(job.target)
    fault = getattr(job, "fault", None)
    return found if fault is None else type(found.__name__, (load(fault), found), {})
