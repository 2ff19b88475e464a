"""Expectations: an implementer's own file of known failures, so that a run is red for what is new only.

```toml
[[expected]]
case = "tensor/mlp[jax-shard_map-*-bfloat16]"
verdict = "fail"
until = 2027-03-31
reason = "the all-gather of our plugin rounds; ticket 123"
```

`*` in a case stands for any characters. An entry that matches nothing or has expired is refused before anything runs; a
case that passes although it is expected to fail is not as expected. Expectations are no waivers: they qualify nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.cases.case import Case
from conformance.cases.usage import UsageError


class Expectation(BaseModel):
    """The cases that it matches come out with `verdict` until a day, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    verdict: Literal["fail", "error", "hang", "crash", "unsupported"] = "fail"
    until: date
    reason: str = Field(min_length=1)

    def matches(self, case: Case) -> bool:
        return re.fullmatch(re.escape(self.case).replace(r"\*", ".*"), case.id) is not None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    expected: tuple[Expectation, ...]


def expecting(path: Path, cases: Sequence[Case], day: date) -> list[Case]:
    """The cases with what the file expects of them; UsageError for a file or an entry that does not hold."""
    entries = _read(path)
    for entry in entries:
        if entry.until < day:
            raise UsageError(f"{path}: what is expected of '{entry.case}' expired on {entry.until}: look at it again.")
        if not any(entry.matches(case) for case in cases):
            raise UsageError(f"{path}: '{entry.case}' matches none of the {len(cases)} cases that were asked for.")
    return [_expecting(case, entries) for case in cases]


def _expecting(case: Case, entries: Sequence[Expectation]) -> Case:
    matching = next((entry for entry in entries if entry.matches(case)), None)
    return replace(case, expect=matching.verdict) if matching else case


def _read(path: Path) -> tuple[Expectation, ...]:
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).expected
    except OSError as wrong:
        raise UsageError(f"Cannot read '{path}': {wrong.strerror}.") from None
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"'{path}' is no file of expectations: {where}: {first['msg'].lower()}.") from None
    except ValueError as wrong:
        raise UsageError(f"'{path}' is no TOML: {str(wrong).rstrip('.')}.") from None
