"""The base class of what shardproof raises: whoever calls us catches one class, and what it says is for a person."""

from __future__ import annotations

from typing import ClassVar


class ShardproofError(Exception):
    """The message is one sentence that says what was wrong and what would be right.

    status   with which the command line ends: 2 where something was asked for that cannot be, 1 where something failed
    """

    status: ClassVar[int] = 2
