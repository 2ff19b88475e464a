"""Which parameter or slot a collective of an HLO module belongs to: where its operand comes from, or its result goes.

A gathered parameter is followed back to an argument of the program, through loops and the stacks that they fill, over
operations that only give it another form. A summed gradient is followed forward to a result of the program, over
operations that keep its elements; the norm of all gradients, a scalar, joins no tensor with another.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from conformance.traffic.hlo_module import Computation, Instruction, Module

_SAME_VALUES = (
    "convert", "copy", "bitcast", "reshape", "transpose", "dynamic-slice", "slice", "get-tuple-element",
    "optimization-barrier", "all-gather", "collective-permute", "all-to-all", "pad", "opt-barrier", "reduce-precision",
)  # fmt: skip
_ELEMENTWISE = (
    *_SAME_VALUES, "multiply", "add", "subtract", "divide", "select", "dynamic-update-slice", "tuple", "while",
    "all-reduce", "reduce-scatter", "concatenate", "sqrt", "rsqrt", "negate", "abs", "minimum", "maximum", "power",
    "exponential", "log", "sign", "clamp",
)  # fmt: skip
_INDEX = re.compile(r"index=(\d+)")
_STEPS = 400  # operations that are looked at on the way of one result
Place = tuple[str, str, int | None]  # computation, instruction, element of a tuple


class Tensors:
    """`outputs` are the names of the results of the program, in their order."""

    def __init__(self, module: Module, outputs: Sequence[str]) -> None:
        self._module, self._outputs = module, outputs

    @cached_property
    def _callers(self) -> Mapping[str, tuple[Computation, Instruction]]:
        """Computation -> the loop or call that runs it."""
        callers = {}
        for computation in self._module.computations.values():
            for instruction in computation.instructions.values():
                if instruction.opcode in ("while", "call"):
                    callers.update({name: (computation, instruction) for name in instruction.called})
        return callers

    def of_operand(self, computation: Computation, name: str) -> str:
        """The argument of the program that a value is a form of; empty where it is computed."""
        place: Place | None = (computation.name, name, None)
        for _ in range(_STEPS):
            if place is None:
                return ""
            within, instruction, element = place
            here = self._module.computations[within].instructions.get(instruction)
            if here is None:
                return ""
            if here.opcode == "parameter" and within == self._module.entry:
                return here.op_name
            place = self._before(self._module.computations[within], here, element)
        return ""

    def _before(self, computation: Computation, here: Instruction, element: int | None) -> Place | None:
        if here.opcode == "get-tuple-element":
            return computation.name, here.operands[0], _index(here)
        if here.opcode == "tuple" and element is not None:
            return computation.name, here.operands[element], None
        if here.opcode == "while":
            return self._stacked(here, element) or (computation.name, here.operands[0], element)
        if here.opcode in ("optimization-barrier", "opt-barrier"):
            return computation.name, here.operands[0], element
        if here.opcode == "parameter" and computation.name in self._callers:
            above, caller = self._callers[computation.name]
            operand = caller.operands[0 if caller.opcode == "while" else int(here.operands[0])]
            return above.name, operand, element
        is_form = here.opcode in _SAME_VALUES or _keeps_size(here, computation)
        return (computation.name, here.operands[0], None) if is_form else None

    def _stacked(self, loop: Instruction, element: int | None) -> Place | None:
        """What each turn of a loop puts into an element of its state, a stack that is filled; None of any other."""
        body = self._module.computations[loop.computation("body")]
        if element is None or body.root.opcode != "tuple":
            return None
        filled = body.instructions[body.root.operands[element]]
        return (body.name, filled.operands[1], None) if filled.opcode == "dynamic-update-slice" else None

    def of_result(self, computation: Computation, name: str) -> str:
        """The result of the program that a value goes into, element by element; empty where it goes into none."""
        start: Place = (computation.name, name, None)
        seen, waiting = {start}, deque([start])
        while waiting and len(seen) < _STEPS:
            within, instruction, element = waiting.popleft()
            for place in self._behind(self._module.computations[within], instruction, element):
                if isinstance(place, str):
                    return place
                if place not in seen:
                    seen.add(place)
                    waiting.append(place)
        return ""

    def _behind(self, computation: Computation, name: str, element: int | None) -> Iterator[Place | str]:
        here = computation.instructions[name]
        if here.root:
            yield from self._above(computation, here, element)
        for user in computation.users.get(name, ()):
            if user.opcode == "get-tuple-element":
                if element is None or _index(user) == element:
                    yield computation.name, user.name, None
            elif user.opcode == "tuple":
                for number, operand in enumerate(user.operands):
                    if operand == name:
                        yield computation.name, user.name, number
            elif user.opcode == "while":
                yield computation.name, user.name, element
            elif _keeps_elements(user, here):
                yield computation.name, user.name, element if "barrier" in user.opcode else None

    def _above(self, computation: Computation, root: Instruction, element: int | None) -> Iterator[Place | str]:
        """Where the result of a computation is seen: in what called it, or in front of everybody."""
        if computation.name == self._module.entry:
            number = element or 0
            yield self._outputs[number] if number < len(self._outputs) else ""
        elif computation.name in self._callers:
            above, caller = self._callers[computation.name]
            if caller.computation("condition") != computation.name:
                yield above.name, caller.name, element


def _keeps_size(here: Instruction, computation: Computation) -> bool:
    """Whether a broadcast is one to dims of size 1 alone."""
    return here.opcode == "broadcast" and here.elements == computation.instructions[here.operands[0]].elements > 1


def _keeps_elements(user: Instruction, operand: Instruction) -> bool:
    """Whether a result has the elements of an operand, one by one; dims of size 1 may come and go."""
    if user.opcode in ("reduce", "broadcast"):
        return user.elements == operand.elements > 1
    return user.opcode in _ELEMENTWISE and user.elements > 1


def _index(element: Instruction) -> int:
    named = _INDEX.search(element.attributes)
    return int(named[1]) if named else 0
