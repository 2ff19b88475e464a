"""Located: where another process finds a function or a class again, 'module@/path/file.py:name'."""

from __future__ import annotations

import functools
import inspect
import pickle
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from conformance.cases.functions import Call

COMPILED = ("PjitFunction",)  # the same function, compiled: jax.jit
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def where(function: Callable[..., Any]) -> str:
    """Raises ValueError, in one sentence, for what is not at the top level of a module under its own name."""
    name = getattr(function, "__qualname__", "")
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    if module is None or file is None or not name.isidentifier() or not Path(file).is_file():
        raise ValueError(
            f"'{name or function}' must be a function at the top level of a module: the workers import it."
        )
    there = getattr(module, name, None)
    if there is not function and not _compiles(function, there):
        raise ValueError(
            f"'{name}' is not what its module '{module.__name__}' has under that name, which is what the workers "
            "import: give what you wrap or change a name of its own at the top level."
        )
    return f"{found_as(module)}:{name}"


def call(function: Callable[..., Any]) -> Call:
    """The same of a function or of a `functools.partial` of one, `partial(optax.adamw, 1e-3)` say."""
    if isinstance(function, functools.partial):
        made = Call(path=where(function.func), args=function.args, keywords=dict(function.keywords))
        try:
            pickle.dumps(made)
        except (pickle.PicklingError, AttributeError, TypeError, ValueError) as failure:
            raise ValueError(
                f"What the partial of '{function.func.__name__}' fixes cannot be sent to other processes ({failure}): "
                "give a function at the top level of a module that makes it, a schedule in it say."
            ) from None
        return made
    return Call(path=where(function))


def found_as(module: ModuleType) -> str:
    """Where a worker finds a Python module: its name as a hint, and its file."""
    return f"{_imported_as(module)}@{Path(str(module.__file__)).resolve()}"


def is_installed(module: ModuleType) -> bool:
    return str(module.__file__).startswith(_INSTALLED)


def _compiles(function: Callable[..., Any], there: object) -> bool:
    return type(function).__name__ in COMPILED and inspect.unwrap(function) is there


def _imported_as(module: ModuleType) -> str:
    """Its name, which for `python -m package.module` is not `__main__`; a script lies in no package."""
    if module.__name__ != "__main__":
        return module.__name__
    spec = getattr(module, "__spec__", None)
    return spec.name if spec is not None else Path(str(module.__file__)).stem
