"""Lookup: from the names in a job to objects, inside a worker (the main process imports no framework)."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from conformance.cases import functions
from conformance.cases.importing import module_at, module_named, shadowing
from conformance.cases.raised import said
from conformance.cases.suite import suites
from conformance.cases.variation import KEPT, MARK, origin_of
from conformance.contract.contract import Contract
from conformance.contract.errors import ShardproofError
from conformance.workers.jobs import Job

METHODS = ("place", "step", "collect")


class LookupFailed(ShardproofError):  # noqa: N818
    """A name that leads nowhere; the message is one sentence for the person who wrote it."""


@cache
def load(path: str) -> Any:
    """The object at 'module:name', '/path/file.py:name' or 'module@/path/file.py:name'. Raises LookupFailed."""
    where, _, name = path.rpartition(":")
    hint, _, file = where.partition("@") if re.match(r"[\w.]+@/", where) else ("", "", where)
    try:
        module = module_at(Path(file), hint) if file.endswith(".py") else module_named(file)
    except Exception as failure:
        raise LookupFailed(f"'{file}' does not import: {said(failure)}.{shadowing(failure)}") from failure
    if not hasattr(module, name):
        raise LookupFailed(f"'{file}' has no '{name}'.")
    return getattr(module, name)


@lru_cache(maxsize=KEPT)
def contract(name: str) -> Contract:
    """A suite's contract by name, that of `conformance.check`, or any object at 'module:name'."""
    if name.startswith(functions.PREFIX):
        return functions.contract(name)
    if ":" in name:
        value: Contract = load(name)
        return value
    whole, _, feature = name.rpartition(MARK)
    if whole and "=" not in feature:
        return contract(whole).without(feature)
    suite = suites().get(name.partition("/")[0])
    if suite is None or origin_of(name) not in {listed.name for listed in suite.contracts}:
        raise LookupFailed(f"No installed suite has the contract '{origin_of(name)}'.")
    return suite.contract(name)


def implementation_class(job: Job) -> type:
    """The class of a job, with the mixin of its fault in front."""
    target = load(job.target)
    if not isinstance(target, type):
        raise LookupFailed(f"'{job.target}' is a {type(target).__name__}, not a class.")
    missing = [method for method in METHODS if not callable(getattr(target, method, None))]
    missing = missing or sorted(getattr(target, "__abstractmethods__", ()))
    if missing:
        raise LookupFailed(f"'{job.target}' lacks {' and '.join(missing)}: an implementation has {', '.join(METHODS)}.")
    fault = getattr(job, "fault", None)
    return target if fault is None else type(target.__name__, (load(fault), target), {})
