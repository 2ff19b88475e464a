"""Which mesh axes the collectives of a compiled program span, read from the text of its HLO."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from conformance.contract.mesh import Mesh

_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{} ]*\})\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_ALL = re.compile(r"replica_groups=\{\}")


def spanned_axes(text: str, mesh: Mesh) -> frozenset[str]:
    """The axes along which devices of one group, or a sender and its receiver, lie apart.

    Devices are numbered as in the mesh. A program for one device has no collectives, and spans none.
    """
    spanned: set[str] = set()
    for group in _groups(text, mesh.devices):
        places = [mesh.coordinates(rank) for rank in group if rank < mesh.devices]
        spanned |= {axis for axis in mesh.axes if len({place[axis] for place in places}) > 1}
    return frozenset(spanned)


def _groups(text: str, devices: int) -> Iterator[list[int]]:
    for listed in set(_LISTED.findall(text)):
        for group in re.findall(r"\{([\d, ]*)\}", listed):
            yield [int(number) for number in group.replace(" ", "").split(",") if number]
    for shape, dims, order in set(_IOTA.findall(text)):
        numbers = np.arange(np.prod(_numbers(dims))).reshape(_numbers(dims))
        numbers = numbers.transpose(_numbers(order)) if order else numbers
        yield from numbers.reshape(_numbers(shape)).tolist()
    if _ALL.search(text):
        yield list(range(devices))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
