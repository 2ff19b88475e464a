"""What a law is: something that holds between runs of one program, whatever the program computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

from conformance.evidence.comparison import Exhibit
from conformance.evidence.evidence import Trial
from conformance.relations.runs import Runs

Finding = tuple[str, str]  # what was judged; a sentence where the law does not hold, else empty


class Law(ABC):
    """One law: a worker makes the trials, the main process judges them. `law` is what `shardproof explain` prints."""

    name: ClassVar[str]
    law: ClassVar[str]

    @abstractmethod
    def trials(self, runs: Runs) -> Iterator[Trial]:
        """The extra runs, in a worker; in torch every rank makes the same ones, in the same order.

        Raises Unsupported where the implementation cannot be held to the law.
        """

    @abstractmethod
    def judge(self, exhibit: Exhibit, trials: Sequence[Trial]) -> Iterator[Finding]:
        """Every comparison that the law makes."""

    def axis(self, trials: Sequence[Trial]) -> str | None:
        """Of a broken law: the mesh axis along which it is broken on some positions only, if it is one."""
        return None
