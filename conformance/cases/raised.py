"""What somebody's code raised: their own line first, ours last."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from traceback import FrameSummary, StackSummary, TracebackException, extract_tb

_OTHERS = tuple(
    {
        Path(__file__).resolve().parents[1],
        *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")),
    }
)


SENTENCE_LINES, STACK_LINES = 4, 12  # of a message


def said(failure: BaseException) -> str:
    """`ValueError: the first line of what it says`, without a full stop."""
    message = next(iter(str(failure).strip().splitlines()), "").rstrip(".")
    return f"{type(failure).__name__}: {message}".rstrip(": ")


def sentence(failure: BaseException) -> str:
    """`ValueError: what it says`, and the innermost line of their own, of the failure or of what caused it."""
    whole = f"{type(failure).__name__}: {_short(str(failure).strip(), SENTENCE_LINES)}"
    own = next(([*_own(cause)] for cause in _causes(failure) if [*_own(cause)]), [])
    return f"{whole} (at {own[-1].filename}:{own[-1].lineno}, `{own[-1].line}`)" if own else whole


def stack(failure: BaseException) -> str:
    """The traceback from their first line on, what it raised, and then how we came there."""
    told = TracebackException.from_exception(failure)
    first = next((number for number, frame in enumerate(told.stack) if _is_own(frame)), 0)
    ours, told.stack = told.stack[:first], StackSummary.from_list(told.stack[first:])
    called = ["Called by shardproof:\n", *StackSummary.from_list(ours).format()] if ours else []
    text = "".join([*told.format(), *called])
    for cause in _causes(failure):
        text = text.replace(str(cause), _short(str(cause), STACK_LINES))
    return text


def stack_of_theirs(failure: BaseException) -> str:
    """The same, and nothing where none of their code is on it: what a message says is all there is to know then."""
    return stack(failure) if any([*_own(cause)] for cause in _causes(failure)) else ""


def _short(message: str, most: int) -> str:
    """Its first lines: a compiler may print the whole program."""
    lines = message.splitlines()
    more = len(lines) - most
    return message if more <= 1 else "\n".join([*lines[:most], f"... and {more} more lines"])


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """The failure, what it was raised from, and so on."""
    cause: BaseException | None = failure
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _own(failure: BaseException) -> Iterator[FrameSummary]:
    return (frame for frame in extract_tb(failure.__traceback__) if _is_own(frame))


def _is_own(frame: FrameSummary) -> bool:
    path = Path(frame.filename)
    return path.is_file() and not any(path.is_relative_to(other) for other in _OTHERS)
