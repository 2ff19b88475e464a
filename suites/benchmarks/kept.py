"""Figures that were measured once in a run of asv, in the folder that its series share.

asv runs each series and parameter in a process of its own: the first that needs a case measures it, and no other case.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

Figures = dict[str, float]


class NotMeasured(RuntimeError):  # noqa: N818
    """There is no figure, for the reason that the message says."""


def kept(module: str, given: Sequence[str]) -> Figures:
    """`figures(*given)` of a module of this package. Raises NotMeasured, each time, where it could not be measured."""
    name = hashlib.sha256(json.dumps([module, *given]).encode()).hexdigest()[:16]
    path = Path(f"figures-{name}.json")
    if not path.exists():
        path.write_text(json.dumps(_measured(module, given)), encoding="utf-8")
    answer = json.loads(path.read_text(encoding="utf-8"))
    if "why" in answer:
        raise NotMeasured(answer["why"])
    figures: Figures = answer["figures"]
    return figures


def published(path: str) -> str:
    """A file of `results`, of the commit whose package is imported."""
    spec = find_spec("conformance")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parents[1] / "results" / path).read_text(encoding="utf-8")


def _measured(module: str, given: Sequence[str]) -> dict[str, object]:
    measure: Callable[..., Figures] = import_module(f".{module}", __package__).figures
    try:
        return {"figures": measure(*given)}
    except Exception as failure:
        return {"why": f"{type(failure).__name__}: {failure}"}
