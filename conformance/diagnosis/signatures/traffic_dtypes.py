"""Signature of messages in another dtype: as many calls and elements are traced as are declared, of another dtype."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ml_dtypes  # noqa: F401 - teaches numpy the name bfloat16
import numpy as np

from conformance.checks.differences import NONE, Amounts, Difference, Key, amounts, differences
from conformance.evidence.comparison import CaseRun


@dataclass(frozen=True, kw_only=True)
class DtypeChange:
    """Calls that are declared in one dtype and traced in another, over the same axes in the same phase."""

    declared: Key
    traced: Key
    calls: int
    bounded: bool = False  # the declaration is an upper bound: no elements can be counted

    @property
    def sure(self) -> float:
        return 0.85 if self.bounded else 0.92

    @property
    def loses_nothing(self) -> bool:
        """Whether what travels is wider than declared: then no value is wrong by it."""
        return _bytes(self.traced) > _bytes(self.declared)

    @property
    def basis(self) -> str:
        bound = "at most " if self.bounded else ""
        return f"{bound}{self.calls} calls of {self.declared} declared, traced in {self.traced.dtype}"

    def words(self, phases: Sequence[str]) -> str:
        named = " and ".join((", ".join(phases[:-1]), phases[-1]) if len(phases) > 1 else phases)
        return f"{named} {self.declared.kind} in {self.traced.dtype}, where {self.declared.dtype} is declared"


def in_another_dtype(case_run: CaseRun) -> tuple[tuple[DtypeChange, ...], ...]:
    """All changes, those together that differ only in their phase, which are in order."""
    alike: dict[tuple[object, ...], list[DtypeChange]] = {}
    for change in _changes(case_run):
        declared = change.declared
        alike.setdefault((declared.kind, declared.axes, declared.dtype, change.traced.dtype), []).append(change)
    return tuple(tuple(changes) for changes in alike.values())


def _changes(case_run: CaseRun) -> Iterator[DtypeChange]:
    traced, declared = case_run.evidence.traffic, case_run.evidence.declarations.traffic
    if traced is None or declared is None:
        return
    said, seen = amounts(declared, traced)
    for finding in differences(declared, traced):
        change = _exact(finding, said, seen) if finding.what == "wrong dtype" else _bounded(finding, said, seen)
        if change is not None:
            yield change


def _exact(finding: Difference, said: Amounts, seen: Amounts) -> DtypeChange | None:
    """As many elements are gained in one dtype as are lost in the other; none where the dtypes are not known."""
    found = finding.found
    if found is None or not _bytes(finding.key) or not _bytes(found):
        return None
    lost = (finding.declared.bytes - finding.traced.bytes) * _bytes(found)
    gained = (seen.get(found, NONE).bytes - said.get(found, NONE).bytes) * _bytes(finding.key)
    return DtypeChange(declared=finding.key, traced=found, calls=finding.calls) if lost == gained else None


def _bounded(finding: Difference, said: Amounts, seen: Amounts) -> DtypeChange | None:
    """What is undeclared, where no more is declared as an upper bound in one dtype, and nothing was seen in that."""
    key = finding.key
    others = [other for other in said if other[:3] == key[:3] and other != key]
    if finding.what != "extra" or key in said or len(others) != 1 or others[0] in seen:
        return None
    bound, traced = said[others[0]], seen[key]
    more = traced.calls > bound.calls or traced.bytes * _bytes(others[0]) > bound.bytes * _bytes(key)
    floats = all(_is_float(dtype) for dtype in (key.dtype, others[0].dtype))
    if bound.least_calls or more or not floats:
        return None
    return DtypeChange(declared=others[0], traced=key, calls=bound.calls, bounded=True)


def _bytes(key: Key) -> int:
    """Of one element; 0 where its dtype has no name that numpy knows."""
    try:
        return int(np.dtype(key.dtype).itemsize) if key.dtype else 0
    except TypeError:
        return 0


def _is_float(dtype: str) -> bool:
    return "float" in dtype
