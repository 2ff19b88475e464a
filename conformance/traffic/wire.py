"""What a device sends for a collective, from its payload: the larger of operand and result on one device."""

from __future__ import annotations

from fractions import Fraction

_PARTS = {
    "all_reduce": lambda size: Fraction(2 * (size - 1), size),
    "reduce": lambda size: Fraction(2 * (size - 1), size),
    "reduce_scatter": lambda size: Fraction(size - 1, size),
    "all_to_all": lambda size: Fraction(size - 1, size),
    "all_gather": lambda size: Fraction(size - 1, size),
    "permute": lambda size: Fraction(size > 1),
    "broadcast": lambda size: Fraction(size > 1),
}


def wire_bytes(kind: str, payload_bytes: int, size: int) -> int:
    """Bytes that one of `size` devices sends, by the ring algorithm, which sends least where messages are long.

    all-reduce 2 (k - 1) / k of the payload, reduce-scatter, all-gather and all-to-all (k - 1) / k, permutation and
    broadcast all of it. Source: Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in
    MPICH, sections 4.1 to 4.5.
    """
    return int(payload_bytes * _PARTS[kind](size))
