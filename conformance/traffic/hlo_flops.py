"""Floating-point operations of the matrix products of an HLO module, on one device, loops counted out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from conformance.traffic.hlo_module import Computation, Instruction, Module
from conformance.traffic.hlo_trips import trip_count

_CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_DIMS = re.compile(r"\[([\d,]*)\]")


def product_flops(module: Module) -> dict[str, int]:
    """Dtype of the operands -> 2 x elements of the result x elements that are summed, over every `dot` of a step."""
    flops: dict[str, int] = {}
    for dtype, operations in _walk(module, module.computations[module.entry], 1):
        flops[dtype] = flops.get(dtype, 0) + operations
    return flops


def _walk(module: Module, computation: Computation, trips: int) -> Iterator[tuple[str, int]]:
    for instruction in computation.instructions.values():
        if instruction.opcode == "dot":
            left = computation.instructions[instruction.operands[0]]
            yield left.buffers[0].dtype, trips * 2 * instruction.elements * _summed(instruction, left)
        elif instruction.opcode == "while":
            body = module.computations[instruction.computation("body")]
            inside = list(_walk(module, body, 1))
            times = trips * trip_count(instruction, module, computation) if inside else 0
            yield from ((dtype, times * operations) for dtype, operations in inside)
        elif instruction.opcode in ("call", "fusion", "async-start", "conditional"):
            for name in instruction.called:
                yield from _walk(module, module.computations[name], trips)


def _summed(product: Instruction, left: Instruction) -> int:
    contracted = _CONTRACTED.search(product.attributes)
    dims = _DIMS.search(left.shape)
    sizes = [int(size) for size in dims[1].split(",") if size] if dims else []
    return math.prod(sizes[int(dim)] for dim in contracted[1].split(",") if dim) if contracted else 1
