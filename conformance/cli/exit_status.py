"""From what a command returns to the exit status; what shardproof raises, and Ctrl-C, become a sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import typer


def exit_status(command: Callable[..., int]) -> Callable[..., None]:
    """Turn what a command returns into the exit status; what shardproof raises, and Ctrl-C, into a sentence."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        from conformance.cli.interruption import STATUS, interruptible
        from conformance.contract.errors import ShardproofError

        try:
            with interruptible():
                status = command(*args, **kwargs)
        except ShardproofError as wrong:
            typer.echo(str(wrong), err=True)
            status = wrong.status
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            status = STATUS
        raise typer.Exit(status)

    return wrapped
