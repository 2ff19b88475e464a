"""Wrong usage: what somebody asked for that cannot be, in one sentence that says what would be right."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TypeVar

from conformance.contract.errors import ShardproofError

MOST_LISTED = 14
Word = TypeVar("Word", bound=str)


class UsageError(ShardproofError):
    """The message is one sentence for the person who typed the command. Exit status 2."""


def choose(kind: str, name: str, known: Sequence[Word], where: str = "") -> Word:
    """`name` itself if it is known; otherwise a UsageError with the nearest match and what exists."""
    for word in known:
        if word == name:
            return word
    close = [other for other in known if other.rpartition("/")[2] == name] or get_close_matches(name, known, 1, 0.5)
    meant = f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
    if not known:
        raise UsageError(f"Unknown {kind} '{name}': there is none{where}.")
    if len(known) > MOST_LISTED:
        raise UsageError(
            f"Unknown {kind} '{name}'{meant}: `shardproof list {kind}s` shows the {len(known)} that exist."
        )
    raise UsageError(f"Unknown {kind} '{name}'{meant}: there {_are(known)}{where}.")


def _are(known: Sequence[str]) -> str:
    return f"is only {known[0]}" if len(known) == 1 else f"are {', '.join(known[:-1])} and {known[-1]}"
