"""What somebody's code raised: their own line first, ours last."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from traceback import FrameSummary, StackSummary, TracebackException, extract_tb

_OTHERS = tuple(
    {str(Path(__file__).resolve().parents[1]), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))}
)


def sentence(failure: BaseException) -> str:
    """`ValueError: what it says`, and the innermost line of their own."""
    said = f"{type(failure).__name__}: {str(failure).strip()}"
    own = [frame for frame in extract_tb((failure.__cause__ or failure).__traceback__) if _is_own(frame)]
    return f"{said} (at {own[-1].filename}:{own[-1].lineno}, `{own[-1].line}`)" if own else said


def stack(failure: BaseException) -> str:
    """The traceback from their first line on, what it raised, and then how we came there."""
    told = TracebackException.from_exception(failure)
    first = next((number for number, frame in enumerate(told.stack) if _is_own(frame)), 0)
    ours, told.stack = told.stack[:first], StackSummary.from_list(told.stack[first:])
    called = ["Called by shardproof:\n", *StackSummary.from_list(ours).format()] if ours else []
    return "".join([*told.format(), *called])


def _is_own(frame: FrameSummary) -> bool:
    return Path(frame.filename).is_file() and not frame.filename.startswith(_OTHERS)
