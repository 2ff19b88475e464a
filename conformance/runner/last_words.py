"""Why a process ended, from what it wrote last: a sentence of our own, or the exception of somebody else's program."""

from __future__ import annotations

import re

_OURS = re.compile(r"^conformance(?:\.\w+)+: ")
_MODULE = re.compile(r"^(?:\w+\.)+(?=\w+: )")


def last_words(stderr: str, status: int) -> str:
    """What belongs behind `does not compile`: the colon and the sentence, without the path of any class."""
    last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "no message")
    sentence, ours = _OURS.subn("", last)
    return f": {sentence}" if ours else f" (status {status}): {_MODULE.sub('', last)}"
