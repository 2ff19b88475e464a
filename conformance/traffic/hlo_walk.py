"""What one step of an HLO module runs, and how often: into loops and calls, and into one branch of a conditional."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from conformance.traffic.hlo_module import Computation, Instruction, Module
from conformance.traffic.hlo_trips import trip_count

_RUNNING = ("call", "fusion", "async-start")
What = TypeVar("What")


@dataclass(frozen=True, kw_only=True)
class Executed(Generic[What]):
    """One instruction: what was read of it, where it stands, and how often a step runs it."""

    what: What
    instruction: Instruction
    computation: Computation
    trips: int


@dataclass(frozen=True, kw_only=True)
class Walk(Generic[What]):
    """A walk over the instructions of which there is something to read.

    read    what an instruction is, where that is of interest; else None
    weight  of what was read: of a conditional the heaviest branch counts, since a device takes one of them
    """

    module: Module
    read: Callable[[Instruction, Computation], What | None]
    weight: Callable[[What], int]

    def executed(self) -> Iterator[Executed[What]]:
        """In program order. A loop whose body has nothing of interest may run unknown times.

        Any other loop that does not say how often it runs raises UnattributedError.
        """
        yield from self._within(self.module.entry)

    def _within(self, name: str) -> Iterator[Executed[What]]:
        computation = self.module.computations[name]
        for instruction in computation.instructions.values():
            what = self.read(instruction, computation)
            if what is not None:
                yield Executed(what=what, instruction=instruction, computation=computation, trips=1)
            else:
                yield from self._inside(instruction, computation)

    def _inside(self, instruction: Instruction, computation: Computation) -> Iterator[Executed[What]]:
        """What an instruction runs."""
        if instruction.opcode == "while":
            body = list(self._within(instruction.computation("body")))
            times = trip_count(instruction, self.module, computation) if body else 0
            yield from (replace(run, trips=run.trips * times) for run in body)
        elif instruction.opcode == "conditional":
            yield from max((list(self._within(name)) for name in instruction.called), key=self._weight)
        elif instruction.opcode in _RUNNING:
            for name in instruction.called:
                yield from self._within(name)

    def _weight(self, branch: list[Executed[What]]) -> int:
        return sum(run.trips * self.weight(run.what) for run in branch)
