"""An all-reduce of which each device keeps its own slice: a reduce-scatter that is not yet called so.

The partitioner writes a reduce-scatter as an all-reduce and a dynamic-slice whose place depends on the device; chips
that have reduce-scatters form them later.
"""

from __future__ import annotations

from conformance.traffic.hlo_module import Computation, Instruction

_SAME_ELEMENTS = ("bitcast", "copy", "convert", "reshape", "transpose")
_OWN = ("partition-id", "replica-id")


def keeps_own_slice(instruction: Instruction, computation: Computation, size: int) -> bool:
    """Whether every use of the result is the slice, 1 / size of it, that belongs to this device."""
    uses = _uses(instruction, computation)
    return bool(uses) and all(
        use.opcode == "dynamic-slice"
        and use.elements * size == instruction.elements
        and any(_depends_on_device(name, computation) for name in use.operands[1:])
        for use in uses
    )


def _uses(instruction: Instruction, computation: Computation) -> list[Instruction]:
    """Those that read the result, behind any that only give it another form."""
    uses: list[Instruction] = []
    for user in computation.users.get(instruction.name, ()):
        uses += _uses(user, computation) if user.opcode in _SAME_ELEMENTS else [user]
    return uses


def _depends_on_device(name: str, computation: Computation) -> bool:
    """Whether an index is worked out from the number of the device."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        instruction = computation.instructions.get(waiting.pop())
        if instruction is None or instruction.name in seen:
            continue
        seen.add(instruction.name)
        if instruction.opcode in _OWN:
            return True
        waiting += instruction.operands
    return False
