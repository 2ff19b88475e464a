"""The collectives of an HLO module, with their ranks, trips and phases.

At the level `partitioned` the text is the dump behind SPMD partitioning, at the level `target` the optimized program of
a chip. Of a conditional the branch with most bytes counts, since a device takes one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from conformance.trace.phase import phase_of
from conformance.traffic.collective_op import Buffer, CollectiveOp, Kind, Level, UnattributedError
from conformance.traffic.hlo_groups import rank_groups, rank_pairs, spelled
from conformance.traffic.hlo_module import Computation, Instruction, Module
from conformance.traffic.hlo_scatter import keeps_own_slice
from conformance.traffic.hlo_trips import trip_count

_KINDS: dict[str, Kind] = {
    "all-reduce": "all_reduce",
    "all-gather": "all_gather",
    "reduce-scatter": "reduce_scatter",
    "all-to-all": "all_to_all",
    "ragged-all-to-all": "all_to_all",
    "collective-permute": "permute",
    "collective-broadcast": "broadcast",
    "send": "permute",
}
_RECEIVING = ("recv", "recv-done", "send-done")


@dataclass(frozen=True, kw_only=True)
class Located:
    """A collective of a module and where it stands in it."""

    operation: CollectiveOp
    instruction: Instruction
    computation: Computation


def collectives(module: Module, devices: int, level: Level) -> tuple[Located, ...]:
    """Every collective that one step runs. Raises UnattributedError for what cannot be read."""
    return tuple(_walk(module, module.computations[module.entry], 1, devices, level))


def _walk(module: Module, computation: Computation, trips: int, devices: int, level: Level) -> Iterator[Located]:
    for instruction in computation.instructions.values():
        if (kind := _kind(instruction)) is not None:
            operation = _operation(kind, instruction, computation, devices, level)
            yield Located(operation=replace(operation, trips=trips), instruction=instruction, computation=computation)
        elif instruction.opcode == "conditional":
            branches = [module.computations[name] for name in instruction.called]
            walked = [list(_walk(module, branch, trips, devices, level)) for branch in branches]
            yield from max(walked, key=_payload)
        else:
            yield from _inside(module, computation, instruction, trips, devices, level)


def _payload(branch: list[Located]) -> int:
    return sum(located.operation.payload_bytes for located in branch)


def _inside(
    module: Module, computation: Computation, instruction: Instruction, trips: int, devices: int, level: Level
) -> Iterator[Located]:
    """The collectives of what an instruction runs; a loop whose body has none may run unknown times."""
    if instruction.opcode == "while":
        inner = list(_walk(module, module.computations[instruction.computation("body")], 1, devices, level))
        times = trip_count(instruction, module, computation) if inner else 0
        for located in inner:
            operation = replace(located.operation, trips=located.operation.trips * trips * times)
            yield replace(located, operation=operation)
    elif instruction.opcode in ("call", "async-start"):
        for name in instruction.called:
            yield from _walk(module, module.computations[name], trips, devices, level)


def _kind(instruction: Instruction) -> Kind | None:
    opcode = instruction.opcode.removesuffix("-start")
    if opcode in _KINDS:
        return _KINDS[opcode]
    is_end = opcode.endswith(("-done", "-update")) or opcode in _RECEIVING
    if not is_end and opcode.startswith(("all-", "collective-", "reduce-scatter", "ragged-all")):
        raise UnattributedError(f"The collective '{instruction.opcode}' of the program is not known.")
    return None


def _operation(
    kind: Kind, instruction: Instruction, computation: Computation, devices: int, level: Level
) -> CollectiveOp:
    pairs = kind == "permute"
    groups = rank_pairs(instruction.attributes) if pairs else rank_groups(spelled(instruction.attributes), devices)
    if kind == "all_reduce" and keeps_own_slice(instruction, computation, len(groups[0])):
        kind = "reduce_scatter"
    return CollectiveOp(
        kind=kind,
        groups=groups,
        operands=_operands(instruction, computation),
        phase=None if level == "target" else phase_of(instruction.op_name),
        level=level,
        where=instruction.op_name,
    )


def _operands(instruction: Instruction, computation: Computation) -> tuple[Buffer, ...]:
    """What is handed in. The second operand of a ragged all-to-all and what follows it say where things go."""
    names = instruction.operands[:1] if instruction.opcode.startswith(("ragged", "send")) else instruction.operands
    return tuple(buffer for name in names for buffer in computation.instructions[name].buffers)
