"""What the partitioner made of a program that says where things lie, and not what is communicated."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.contract.implementation import CollectiveKind, Phase


@dataclass(frozen=True, kw_only=True)
class Sent:
    """Collectives of one kind and dtype over one set of axes, for one tensor or at one place, in one step per device.

    tensor  the parameter that is gathered, or whose gradient is summed, or a result that it goes into; empty where none
    where   the operation of the program from which it came, as far as the program says
    """

    kind: CollectiveKind
    axes: tuple[str, ...]
    phase: Phase
    dtype: str
    calls: int
    payload_bytes: int
    wire_bytes: int
    tensor: str
    where: str


@dataclass(frozen=True, kw_only=True)
class Partitioned:
    """The program behind SPMD partitioning.

    sent            its collectives, those that send most first
    rematerialized  what the partitioner says that it had to gather whole, sentence by sentence
    flops           floating-point operations of matrix products in a step, of one device; 0 where they were not counted
    """

    sent: tuple[Sent, ...]
    rematerialized: tuple[str, ...]
    flops: int = 0
