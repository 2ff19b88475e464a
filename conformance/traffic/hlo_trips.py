"""How often a loop of an HLO module runs its body."""

from __future__ import annotations

import re

from conformance.traffic.collective_op import UnattributedError
from conformance.traffic.hlo_module import Computation, Instruction, Module

_ANNOTATED = re.compile(r'known_trip_count"?:\s*\{"?n"?:\s*"?(\d+)"?\}')
_DIRECTION = re.compile(r"direction=(\w+)")


def trip_count(loop: Instruction, module: Module, above: Computation) -> int:
    """From the compiler's annotation, else from a condition that compares a counter with a constant.

    Such a counter begins at a constant and grows by a constant in each turn, which is read too.
    Raises UnattributedError where neither says it.
    """
    if (annotated := _ANNOTATED.search(loop.attributes)) is not None:
        return int(annotated[1])
    condition = module.computations[loop.computation("condition")]
    index, limit, inclusive = _comparison(condition, module)
    body = module.computations[loop.computation("body")]
    first, growth = _start(above, loop, index), _growth(body, index)
    if limit is None or first is None or not growth:
        raise UnattributedError(
            f"How often the loop {loop.name} ({loop.op_name or 'no place given'}) runs is not in the program."
        )
    return max(0, -(-(limit + inclusive - first) // growth))


def _comparison(condition: Computation, module: Module) -> tuple[int, int | None, int]:
    """(number of the counter in the loop's state, what it is compared with, 1 where the limit itself counts)."""
    compared = condition.root
    if compared.opcode == "fusion":
        return _comparison(module.computations[compared.computation("calls")], module)
    direction = _DIRECTION.search(compared.attributes)
    if compared.opcode != "compare" or direction is None or direction[1] not in ("LT", "LE"):
        return 0, None, 0
    counter, limit = (condition.instructions[name] for name in compared.operands)
    return _index(counter), _constant(condition, limit), int(direction[1] == "LE")


def _index(element: Instruction) -> int:
    named = re.search(r"index=(\d+)", element.attributes)
    return int(named[1]) if named else 0


def _constant(computation: Computation, instruction: Instruction | None) -> int | None:
    while instruction is not None and instruction.opcode in ("copy", "convert", "bitcast"):
        instruction = computation.instructions.get(instruction.operands[0])
    if instruction is None or instruction.opcode != "constant" or not instruction.operands:
        return None
    text = instruction.operands[0]
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _start(above: Computation, loop: Instruction, index: int) -> int | None:
    state = above.instructions.get(loop.operands[0])
    if state is None or state.opcode != "tuple":
        return None
    return _constant(above, above.instructions.get(state.operands[index]))


def _growth(body: Computation, index: int) -> int | None:
    """What the body adds to the counter, in one addition or in several; None where it does anything else to it."""
    state, growth = body.root, 0
    grown = body.instructions.get(state.operands[index]) if state.opcode == "tuple" else None
    while grown is not None and grown.opcode in ("copy", "bitcast", "add"):
        operands = [body.instructions.get(name) for name in grown.operands]
        if grown.opcode == "add":
            constants = [n for operand in operands if (n := _constant(body, operand)) is not None]
            if len(constants) != 1:
                return None
            growth += constants[0]
            operands = [operand for operand in operands if _constant(body, operand) is None]
        grown = operands[0]
    is_counter = grown is not None and grown.opcode == "get-tuple-element" and _index(grown) == index
    return growth if is_counter else None
