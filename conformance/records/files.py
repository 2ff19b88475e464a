"""Files that are whole or not there: written beside their place first, so that a full disk spoils none."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from conformance.contract.errors import ShardproofError


class WriteFailed(ShardproofError):  # noqa: N818 - a fact about the disk
    """Something could not be written; the message is one sentence."""

    status = 1


def write_whole(path: Path, text: str) -> None:
    """Put the text where `path` says, or raise WriteFailed and leave what was there."""
    draft = path.with_name(f"{path.name}.draft")
    try:
        with draft.open("w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except OSError as wrong:
        with suppress(OSError):
            draft.unlink()
        raise WriteFailed(cannot_write(path, wrong)) from wrong


def cannot_write(path: Path, wrong: OSError) -> str:
    return f"Cannot write '{path}': {wrong.strerror or wrong}."
