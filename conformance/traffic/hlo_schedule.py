"""What a chip computes while a collective is under way: read from the order of an optimized program.

The optimized program of a chip is scheduled: its instructions are issued in the order in which they stand. A collective
that does not block is a pair, start and done; what stands between them may run while it is under way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from conformance.traffic.hlo_module import Computation, Instruction, Module

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
_COMPUTING = ("fusion", "custom-call", "dot", "convolution", "while", "call", "conditional")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One collective as it is launched.

    kind      as the program spells it
    operands  that the compiler combined into it
    bytes     of them all on one device
    place     of its start, and `end` of its done, among the computing instructions of their computation
    between   computing instructions that stand between start and done; none of one that blocks
    """

    kind: str
    operands: int
    bytes: int
    place: int
    end: int

    @property
    def between(self) -> int:
        return self.end - self.place


def launches(module: Module) -> tuple[Launch, ...]:
    """Every collective of the program in the order in which it is launched, loops counted once."""
    wrapped = {
        name
        for computation in module.computations.values()
        for instruction in computation.instructions.values()
        for name in (instruction.called if instruction.opcode == "async-start" else ())
    }
    own = (computation for name, computation in module.computations.items() if name not in wrapped)
    return tuple(launch for computation in own for launch in _within(module, computation))


def computing(module: Module) -> int:
    """Computing instructions of the entry computation: the length of its schedule."""
    return sum(map(_computes, module.computations[module.entry].instructions.values()))


def _within(module: Module, computation: Computation) -> Iterator[Launch]:
    started: dict[str, tuple[str, Instruction, int]] = {}
    place = 0
    for instruction in computation.instructions.values():
        if instruction.opcode.endswith("-done"):
            if (begun := started.pop(instruction.operands[0], None)) is not None:
                yield _launch(begun[0], begun[1], computation, begun[2], place)
        elif kind := _kind(module, instruction):
            if instruction.opcode.endswith("-start"):
                started[instruction.name] = kind, instruction, place
            else:
                yield _launch(kind, instruction, computation, place, place)
        place += _computes(instruction)


def _launch(kind: str, start: Instruction, computation: Computation, place: int, end: int) -> Launch:
    buffers = [buffer for name in start.operands for buffer in computation.instructions[name].buffers]
    return Launch(
        kind=kind, operands=len(start.operands), bytes=sum(buffer.bytes for buffer in buffers), place=place, end=end
    )


def _kind(module: Module, instruction: Instruction) -> str:
    """Of a collective that begins here, whether it blocks or not; empty for any other instruction."""
    opcode = instruction.opcode.removesuffix("-start")
    if opcode == "async":
        called = next((name for name in instruction.called if name in module.computations), "")
        opcode = module.computations[called].root.opcode if called else ""
    return opcode if opcode in COLLECTIVES else ""


def _computes(instruction: Instruction) -> bool:
    return instruction.opcode in _COMPUTING
