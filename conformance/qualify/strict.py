"""Strict JSON: no key twice, no number that is none, no depth without end; what two readers could read differently."""

from __future__ import annotations

import json
import math
from typing import Any

from conformance.contract.errors import ShardproofError

DEEPEST = 40


class NotStrict(ShardproofError, ValueError):  # noqa: N818 - says what the text is
    """What is wrong, in one sentence without a full stop."""


def strict_json(text: bytes) -> Any:
    """The value; NotStrict where the text is no JSON that every reader understands alike."""
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite
        )
    except NotStrict:
        raise
    except (ValueError, RecursionError) as wrong:
        raise NotStrict(f"it is no JSON ({_short(wrong)})") from None
    _check_depth(value, DEEPEST)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise NotStrict(f"the key '{key}' stands in it twice")
        members[key] = value
    return members


def _no_number(word: str) -> Any:
    raise NotStrict(f"{word} is no number of JSON")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise NotStrict(f"the number {word[:20]} is beyond what a float can hold")
    return value


def _check_depth(value: Any, left: int) -> None:
    if not left:
        raise NotStrict(f"it is nested deeper than {DEEPEST} levels")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(item, left - 1)


def _short(wrong: Exception) -> str:
    return str(wrong).splitlines()[0][:80] if str(wrong) else type(wrong).__name__
