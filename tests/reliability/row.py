"""A row of the table: what one injury did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one injury did. `came` and `must` are verdicts, or what the command says; `next_seconds` are until the next
    case has its verdict: after the verdict of the injured one, or after the start of the command that goes on.
    """

    injury: str
    where: str
    must: str
    came: str
    lost: int
    left: int
    next_seconds: float | None
    measured: str = ""

    @property
    def wrong(self) -> str:
        """What is not as it must be; empty where all is."""
        said = [f"'{self.came}' instead of '{self.must}'"] if self.must not in self.came else []
        said += [f"{self.lost} records lost"] if self.lost else []
        said += [f"{self.left} processes left"] if self.left else []
        said += ["the next case never ran"] if self.next_seconds is None else []
        return f"{self.injury}, {self.where}: {', '.join(said)}." if said else ""
