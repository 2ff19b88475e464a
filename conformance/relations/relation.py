"""What a relation is: something that holds between runs of one program, whatever the program computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import ExtraRun
from conformance.relations.runs import Runs

Finding = tuple[str, str]  # what was judged; a sentence where the relation does not hold, else empty


class Relation(ABC):
    """A worker makes the extra runs, the main process judges them. `relation` is what `shardproof explain` prints."""

    name: ClassVar[str]
    relation: ClassVar[str]

    @abstractmethod
    def extra_runs(self, runs: Runs) -> Iterator[ExtraRun]:
        """The extra runs, in a worker; in torch every rank makes the same ones, in the same order.

        Raises Unsupported where the implementation cannot be held to the relation.
        """

    @abstractmethod
    def judge(self, case_run: CaseRun, extra_runs: Sequence[ExtraRun]) -> Iterator[Finding]:
        """Every comparison that the relation makes."""

    def axis(self, extra_runs: Sequence[ExtraRun]) -> str | None:
        """Of a broken relation: the mesh axis along which it is broken on some positions only, if it is one."""
        return None

    def cause(self, extra_runs: Sequence[ExtraRun]) -> str:
        """Of a broken relation: why, as far as its runs show more than that it is broken."""
        return f"breaks the relation '{self.name}'"
