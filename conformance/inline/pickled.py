"""Pickled: what somebody handed over, so that a worker can read it where their modules have other names."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from conformance.cases.raised import said
from conformance.inline.located import found_as, is_installed
from conformance.workers.lookup import load


def pickled(what: str, value: Any) -> tuple[bytes, dict[str, str]]:
    """The bytes, and where each Python module of theirs in it is. Raises ValueError in one sentence."""
    try:
        data = pickle.dumps(value)
        reader = _Recorder(io.BytesIO(data))
        reader.load()
    except Exception as failure:
        raise ValueError(
            f"{what} cannot be sent to the workers ({said(failure)}): hand over a function at the top level of a "
            "module that makes it."
        ) from failure
    return data, {name: found_as(module) for name in reader.seen if not is_installed(module := sys.modules[name])}


def unpickled(data: bytes, modules: Mapping[str, str]) -> Any:
    """What was pickled; their modules are imported from where they are."""
    return _Reader(io.BytesIO(data), modules).load()


class _Recorder(pickle.Unpickler):
    """Reads, and notes of which Python modules something is read."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.seen: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        loaded = super().find_class(module, name)
        if Path(getattr(sys.modules.get(module), "__file__", None) or "").is_file():
            self.seen.add(module)
        return loaded


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, modules: Mapping[str, str]) -> None:
        super().__init__(file)
        self.modules = modules

    def find_class(self, module: str, name: str) -> Any:
        if module not in self.modules:
            return super().find_class(module, name)
        first, *rest = name.split(".")
        return reduce(getattr, rest, load(f"{self.modules[module]}:{first}"))
