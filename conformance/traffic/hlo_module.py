"""HLO text as computations and instructions; only what a reader of collectives asks for."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from conformance.traffic.collective_op import Buffer, UnattributedError

_DTYPES = {
    "pred": "bool", "s4": "int4", "u4": "uint4", "s8": "int8", "u8": "uint8", "s16": "int16", "u16": "uint16",
    "s32": "int32", "u32": "uint32", "s64": "int64", "u64": "uint64", "f8e4m3fn": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2", "f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64",
    "c64": "complex64", "c128": "complex128",
}  # fmt: skip
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,<=]*)\]")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition|called_computations)=\{?%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|true_computation=%?([\w.\-]+), false_computation=%?([\w.\-]+)")
_OP_NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction.

    shape       of its result, as text: `bf16[4,32]{1,0}`, or several in parentheses
    operands    names of instructions of the same computation; of a parameter or a constant, what stands there instead
    attributes  everything behind the operands, as text
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    root: bool = False

    @cached_property
    def op_name(self) -> str:
        """The operation of the user's program, with its scopes."""
        named = _OP_NAME.search(self.attributes)
        return named[1].replace('\\"', '"').replace("\\'", "'") if named else ""

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """Its result, or results. Raises UnattributedError for an element type that is not known."""
        return tuple(_buffer(dtype, dims) for dtype, dims in _ARRAY.findall(self.shape) if dtype != "token")

    @property
    def elements(self) -> int:
        return sum(buffer.elements for buffer in self.buffers)

    @cached_property
    def called(self) -> tuple[str, ...]:
        """Computations that it runs, in the order of its attributes."""
        branches = [name for group in _BRANCHES.findall(self.attributes) for name in group if name]
        named = [name.strip().lstrip("%") for part in branches for name in part.split(",")]
        return (*_CALLED.findall(self.attributes), *named)

    def computation(self, role: str) -> str:
        """The computation that has one role: `body`, `condition`, `to_apply` or `calls`; empty where there is none."""
        named = re.search(rf"\b{role}=%?([\w.\-]+)", self.attributes)
        return named[1] if named else ""


@dataclass(frozen=True, kw_only=True)
class Computation:
    name: str
    instructions: Mapping[str, Instruction]

    @property
    def root(self) -> Instruction:
        return next(i for i in self.instructions.values() if i.root)

    @cached_property
    def users(self) -> Mapping[str, tuple[Instruction, ...]]:
        """Name of an instruction -> those that read it."""
        reading: dict[str, list[Instruction]] = {}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                reading.setdefault(operand, []).append(instruction)
        return {name: tuple(instructions) for name, instructions in reading.items()}


@dataclass(frozen=True, kw_only=True)
class Module:
    entry: str
    computations: Mapping[str, Computation]


def read_module(text: str) -> Module:
    """The module in an HLO text. Raises UnattributedError where there is no entry computation."""
    computations: dict[str, Computation] = {}
    entry = ""
    for is_entry, name, lines in _sections(text):
        instructions = [_instruction(line) for line in lines]
        computations[name] = Computation(name=name, instructions={i.name: i for i in instructions if i is not None})
        entry = name if is_entry else entry
    if not entry:
        raise UnattributedError("The text is not that of an HLO module: it has no entry computation.")
    return Module(entry=entry, computations=computations)


def _sections(text: str) -> Iterator[tuple[bool, str, list[str]]]:
    lines: list[str] = []
    head: re.Match[str] | None = None
    for line in text.splitlines():
        if head is None:
            head = _COMPUTATION.match(line)
        elif line.startswith("}"):
            yield bool(head[1]), head[2], lines
            head, lines = None, []
        else:
            lines.append(line.strip())


def _instruction(line: str) -> Instruction | None:
    """`[ROOT] %name = shape opcode(operands), attributes`; None for a line that is none."""
    left, equals, right = line.partition(" = ")
    if not equals:
        return None
    shape_end = _closed(right, 0) if right.startswith("(") else right.find(" ")
    opcode, _, _ = right[shape_end:].lstrip().partition("(")
    start = right.index("(", shape_end)
    end = _closed(right, start)
    names = _split(right[start + 1 : end - 1])
    return Instruction(
        name=left.removeprefix("ROOT ").lstrip("%"),
        shape=right[:shape_end],
        opcode=opcode,
        operands=tuple(names),
        attributes=right[end:],
        root=left.startswith("ROOT "),
    )


def _closed(text: str, start: int) -> int:
    """The place behind the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    raise UnattributedError(f"A line of the HLO text is cut off: '{text[:120]}'.")


def _split(operands: str) -> list[str]:
    """Operand names; some printers write the shape before each name."""
    if "%" in operands:
        return re.findall(r"%([\w.\-]+)", operands)
    return [part.split()[-1] for part in operands.split(",") if part.strip() and "*/" not in part.split()[-1]]


def _buffer(dtype: str, dims: str) -> Buffer:
    if dtype not in _DTYPES:
        raise UnattributedError(f"The element type '{dtype}' of an HLO text is not known.")
    sizes = [int(size.removeprefix("<=")) for size in dims.split(",") if size]
    return Buffer(dtype=_DTYPES[dtype], elements=math.prod(sizes))
