"""What options of several commands have in common."""

from __future__ import annotations

from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def option(name: str, metavar: str, text: str) -> Any:
    """An option whose default is said in its text."""
    return typer.Option(name, metavar=metavar, help=text, show_default=False)
