"""The collectives of an HLO module, with their ranks, trips and phases.

At the level `partitioned` the text is the dump behind SPMD partitioning, at the level `target` the optimized program of
a chip. Of a conditional the branch with most bytes counts, since a device takes one of them.
"""

from __future__ import annotations

from dataclasses import replace

from conformance.traffic.collective_op import Buffer, CollectiveOp, Kind, Level, UnattributedError
from conformance.traffic.hlo_fused import goes_on, started_channels
from conformance.traffic.hlo_groups import rank_groups, rank_pairs, spelled
from conformance.traffic.hlo_module import Computation, Instruction, Module
from conformance.traffic.hlo_scatter import keeps_own_slice
from conformance.traffic.hlo_walk import Executed, Walk
from conformance.traffic.phase import phase_of

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


def collectives(module: Module, devices: int, level: Level) -> tuple[Executed[CollectiveOp], ...]:
    """Every collective that one step runs, each with its trips. Raises UnattributedError for what cannot be read."""

    started = started_channels(module)

    def read(instruction: Instruction, computation: Computation) -> CollectiveOp | None:
        kind = _kind(instruction)
        if kind is None or goes_on(instruction, computation, started):
            return None
        return _operation(kind, instruction, computation, devices, level)

    walk = Walk(module=module, read=read, weight=lambda operation: operation.payload_bytes)
    return tuple(replace(run, what=replace(run.what, trips=run.trips)) for run in walk.executed())


def is_collective(instruction: Instruction) -> bool:
    """Whether an instruction communicates, or ends what another one began, whatever its name is."""
    opcode = instruction.opcode
    return opcode in _RECEIVING or opcode.removesuffix("-start").removesuffix("-done") in _KINDS


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
