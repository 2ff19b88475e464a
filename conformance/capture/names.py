"""Names: from those of one program to those of another, by patterns.

In a pattern `*` stands for any part of a name and `#` for a whole number. On the other side each stands for what it
matched, in order; `#+4` is the number four on: a pipeline stage that counts its layers from 0 says which they are. A
pattern with several names on the other side is a fused tensor: theirs one after the other along dim 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

_HOLE = re.compile(r"\*|#(?:\+(\d+))?")


def renamed(name: str, patterns: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The name, or the names, that the first pattern which fits gives; the name itself where none does."""
    for pattern, others in patterns.items():
        match = re.fullmatch("".join(_parts(pattern)), name)
        if match:
            return tuple(_filled(other, match.groups()) for other in others)
    return (name,)


def first_match(name: str, patterns: Mapping[str, Mapping[str, str]]) -> Mapping[str, str] | None:
    """What the first pattern with `*` that fits a name says of it."""
    return next((said for pattern, said in patterns.items() if fnmatchcase(name, pattern)), None)


def read(given: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Patterns as a person writes them. Raises ValueError, in one sentence, for one that cannot be filled."""
    read = {pattern: (other,) if isinstance(other, str) else tuple(other) for pattern, other in given.items()}
    for pattern, others in read.items():
        for other in others:
            if [hole[0] for hole in _holes(pattern)] != [hole[0] for hole in _holes(other)]:
                raise ValueError(f"'{other}' needs the same * and #, in the same order, as its pattern '{pattern}'.")
    return read


def _holes(pattern: str) -> list[str]:
    return [match.group(0) for match in _HOLE.finditer(pattern)]


def _parts(pattern: str) -> list[str]:
    holes = [r"(\d+)" if hole[0] == "#" else "(.*)" for hole in _holes(pattern)]
    texts = [re.escape(text) for text in re.split(r"\*|#(?:\+\d+)?", pattern)]
    return [part for pair in zip(texts, [*holes, ""], strict=True) for part in pair]


def _filled(other: str, matched: Sequence[str]) -> str:
    values = iter(matched)

    def fill(hole: re.Match[str]) -> str:
        value = next(values)
        return str(int(value) + int(hole.group(1))) if hole.group(1) else value

    return _HOLE.sub(fill, other)
