"""A command whose options are given once: of one that is given twice, nobody says which is meant."""

from __future__ import annotations

from collections import Counter
from typing import Any

import typer
from typer.core import TyperCommand

USAGE = 2


class Once(TyperCommand):
    """Refuses, in one sentence, an option that is given several times and holds one value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option, times in Counter(given).items():
            if times > 1 and option.param_type_name == "option" and not getattr(option, "multiple", False):
                typer.echo(f"{option.opts[0]} is given {times} times and holds one value: give it once.", err=True)
                raise typer.Exit(USAGE)
        return super().parse_args(ctx, args)
