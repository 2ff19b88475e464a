"""Floating-point operations of the matrix products of an HLO module, on one device, loops counted out."""

from __future__ import annotations

import math
import re

from conformance.traffic.hlo_module import Computation, Instruction, Module
from conformance.traffic.hlo_walk import Walk

_CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_DIMS = re.compile(r"\[([\d,]*)\]")


def product_flops(module: Module) -> dict[str, int]:
    """Dtype of the operands -> 2 x elements of the result x elements that are summed, over every `dot` of a step."""
    flops: dict[str, int] = {}
    for product in Walk(module=module, read=_product, weight=lambda product: product[1]).executed():
        dtype, operations = product.what
        flops[dtype] = flops.get(dtype, 0) + product.trips * operations
    return flops


def _product(instruction: Instruction, computation: Computation) -> tuple[str, int] | None:
    """(dtype of the operands, operations) of a matrix product."""
    if instruction.opcode != "dot":
        return None
    left = computation.instructions[instruction.operands[0]]
    return left.buffers[0].dtype, 2 * instruction.elements * _summed(instruction, left)


def _summed(product: Instruction, left: Instruction) -> int:
    contracted = _CONTRACTED.search(product.attributes)
    dims = _DIMS.search(left.shape)
    sizes = [int(size) for size in dims[1].split(",") if size] if dims else []
    return math.prod(sizes[int(dim)] for dim in contracted[1].split(",") if dim) if contracted else 1
