"""One collective operation of a program, whichever text or trace it was read from."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from conformance.contract.errors import ShardproofError
from conformance.contract.implementation import Phase

Level = Literal["program", "partitioned", "target"]
Kind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "permute", "broadcast"]
Ranks = tuple[tuple[int, ...], ...]

BITS = {
    "bool": 8, "int4": 4, "uint4": 4, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "int32": 32, "uint32": 32,
    "int64": 64, "uint64": 64, "float8_e4m3fn": 8, "float8_e5m2": 8, "float16": 16, "bfloat16": 16, "float32": 32,
    "float64": 64, "complex64": 64, "complex128": 128,
}  # fmt: skip


class UnattributedError(ShardproofError, ValueError):
    """A collective that cannot be read, or whose ranks are not those of the mesh; the message is one sentence."""


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """One operand: its dtype and its number of elements on one device."""

    dtype: str
    elements: int

    @property
    def bytes(self) -> int:
        return -(-self.elements * BITS[self.dtype] // 8)


@dataclass(frozen=True, kw_only=True)
class CollectiveOp:
    """One collective of a program, as one device takes part in it.

    groups    ranks that communicate with each other; of a permutation the pairs (source, destination)
    operands  what a device hands in; several where the compiler combined them into one launch
    phase     None at the level target, where operations that the compiler combined have no name
    trips     how often one step runs it
    level     what was read: the program as written, as partitioned, or as optimized for a target chip
    where     the operation of the user's program from which it came, as far as the program says
    tensor    the parameter, slot or input that it gathers, or whose gradient it sums; empty where that is not known
    """

    kind: Kind
    groups: Ranks
    operands: tuple[Buffer, ...]
    phase: Phase | None
    level: Level
    trips: int = 1
    where: str = ""
    tensor: str = ""

    @property
    def size(self) -> int:
        """How many ranks take part with each other; 1 where nothing is sent."""
        if self.kind == "permute":
            return 1 + any(source != target for source, target in self.groups)
        return max(map(len, self.groups), default=1)

    @property
    def dtype(self) -> str:
        """The dtype of the operands; several, joined by `+`, where a launch combines them."""
        return "+".join(dict.fromkeys(operand.dtype for operand in self.operands))

    @property
    def operand_bytes(self) -> int:
        """Bytes that one device hands in, in one launch."""
        return sum(operand.bytes for operand in self.operands)

    @property
    def payload_bytes(self) -> int:
        """The larger of operand and result on one device, in one step."""
        grown = self.size if self.kind == "all_gather" else 1
        return self.trips * self.operand_bytes * grown

    @property
    def wire_bytes(self) -> int:
        """Bytes that one device sends in one step, by the ring algorithm, which sends least where messages are long.

        all-reduce 2 (k - 1) / k of its operand, reduce-scatter and all-to-all (k - 1) / k, all-gather (k - 1) times,
        permutation and broadcast the operand once. Source: Thakur, Rabenseifner and Gropp, Optimization of Collective
        Communication Operations in MPICH, sections 4.1 to 4.5.
        """
        return int(self.trips * self.operand_bytes * _SENT[self.kind](self.size))


_SENT = {
    "all_reduce": lambda size: Fraction(2 * (size - 1), size),
    "reduce_scatter": lambda size: Fraction(size - 1, size),
    "all_to_all": lambda size: Fraction(size - 1, size),
    "all_gather": lambda size: Fraction(size - 1),
    "permute": lambda size: Fraction(size > 1),
    "broadcast": lambda size: Fraction(size > 1),
}


def wire_share(kind: str, size: int) -> Fraction:
    """Bytes on the wire by the payload, which is the larger of operand and result, among so many ranks."""
    return _SENT[kind](size) / (size if kind == "all_gather" else 1)
