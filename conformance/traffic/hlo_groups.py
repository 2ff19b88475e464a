"""The ranks of a collective in HLO text, in every spelling that XLA prints.

`{{0,1},{2,3}}` lists them. `[4,2]<=[2,4]T(1,0)` counts them: all ranks, shaped [2,4], transposed, shaped [4,2].
`mesh['a'=2,'b'=4] {'b'}`, or `@mesh<a=2,b=4>, device_ids=(...) {b:(2)2}`, counts them over a mesh of XLA's own, whose
axis names are not the user's and whose sizes may be factors of the user's: only the ranks that follow from it count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import numpy as np

from conformance.traffic.collective_op import Ranks, UnattributedError

_SPELLED = re.compile(r"replica_groups=.*?(?=, (?!device_ids)\w+=|$)", re.MULTILINE)
_LISTED = re.compile(r"replica_groups=\{((?:\{[\d, ]*\},?\s*)*)\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_IDS = r"\[[\d,]+\](?:<=\[[\d,]+\])?(?:T\([\d,]+\))?|[\d,]+"
_MESH = re.compile(rf"replica_groups=@?mesh[\[<]([^\]>]*)[\]>](?:,\s*device_ids=\(({_IDS})\))?\s*\{{([^}}]*)\}}")
_PAIRED = re.compile(r"source_target_pairs=[^}]*\}(?:,\s*\{[^}]*\})*\}")
_PAIRS = re.compile(r"source_target_pairs=\"?\{((?:\{\d+, ?\d+\},?\s*)*)\}")
_MESH_AXIS = re.compile(r"'?([\w.\-]+)'?=(\d+)")
_AXIS_USED = re.compile(r"'?([\w.\-]+)'?(?::\((\d+)\)(\d+))?")


def spelled(attributes: str) -> str:
    """What the attributes of a collective say of its groups; the same words for many collectives of a program."""
    said = _SPELLED.search(attributes)
    return said[0] if said else ""


def all_groups(text: str, devices: int) -> Iterator[Ranks]:
    """The groups, or pairs, of every collective in an HLO text, each spelling once; whatever the collectives are."""
    yield from (rank_groups(said, devices) for said in dict.fromkeys(_SPELLED.findall(text)))
    yield from (rank_pairs(said) for said in dict.fromkeys(_PAIRED.findall(text)))


@cache
def rank_groups(attributes: str, devices: int) -> Ranks:
    """The groups of a collective that is no permutation; without any, all devices are one group.

    Raises UnattributedError for a spelling that is not known.
    """
    if (listed := _LISTED.search(attributes)) is not None:
        groups = tuple(_numbers(inner) for inner in re.findall(r"\{([\d, ]*)\}", listed[1]))
        return groups or (tuple(range(devices)),)
    if (iota := _IOTA.search(attributes)) is not None:
        shape, dims, order = (_numbers(part or "") for part in iota.groups())
        ranks = np.arange(math.prod(dims)).reshape(dims).transpose(order or range(len(dims)))
        return _tuples(ranks.reshape(shape))
    if (mesh := _MESH.search(attributes)) is not None:
        return _over_mesh(mesh[1], mesh[2], mesh[3], attributes)
    if "replica_groups=" not in attributes:
        return (tuple(range(devices)),)
    raise UnattributedError(f"The ranks of a collective cannot be read from '{_excerpt(attributes)}'.")


def rank_pairs(attributes: str) -> Ranks:
    """(source, destination) of a permutation. Raises UnattributedError where there is none."""
    if (pairs := _PAIRS.search(attributes)) is None:
        raise UnattributedError(f"The pairs of a permutation cannot be read from '{_excerpt(attributes)}'.")
    return tuple(_numbers(inner) for inner in re.findall(r"\{(\d+, ?\d+)\}", pairs[1]))


def _over_mesh(axes: str, device_ids: str | None, used: str, attributes: str) -> Ranks:
    """Groups along some axes of XLA's mesh, or along factors of them: `'a':(2)4` is 4 ranks below the first 2."""
    sizes = {name: int(size) for name, size in _MESH_AXIS.findall(axes)}
    uses = [(name, int(before or 1), int(size or sizes[name])) for name, before, size in _AXIS_USED.findall(used)]
    factors = [(axis, *bounds) for axis in sizes for bounds in _factors(axis, sizes[axis], uses)]
    inside = [
        number
        for name, before, size in uses
        for number, (axis, low, high) in enumerate(factors)
        if axis == name and before <= low and high <= before * size
    ]
    outside = [number for number in range(len(factors)) if number not in inside]
    shape = [high // low for _, low, high in factors]
    total = math.prod(shape)
    ranks = np.arange(total) if device_ids is None else np.array(_device_ids(device_ids, total, attributes))
    return _tuples(ranks.reshape(shape).transpose([*outside, *inside]).reshape(-1, math.prod(shape[n] for n in inside)))


def _factors(axis: str, size: int, uses: list[tuple[str, int, int]]) -> list[tuple[int, int]]:
    """An axis cut wherever a use of it begins or ends: (product of the sizes above, that including its own)."""
    cuts = {1, size} | {cut for name, before, n in uses if name == axis for cut in (before, before * n)}
    bounds = sorted(cuts)
    return list(pairwise(bounds))


def _device_ids(text: str, total: int, attributes: str) -> list[int]:
    """A list, or a count like that of groups: all ranks in a shape, transposed."""
    dims, _, order = text.rpartition("[")[2].partition("]")
    if not text.startswith("["):
        ids = list(_numbers(text))
    else:
        shape = _numbers(dims)
        ids = [int(n) for n in np.arange(math.prod(shape)).reshape(shape).transpose(_numbers(order) or None).flat]
    if len(ids) != total:
        raise UnattributedError(f"The devices of a mesh cannot be read from '{_excerpt(attributes)}'.")
    return ids


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _tuples(ranks: np.ndarray) -> Ranks:
    return tuple(tuple(group) for group in ranks.tolist())


def _excerpt(text: str) -> str:
    return text.strip()[:160]
