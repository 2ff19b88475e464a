"""The devices that run a traced program together, and what lies on each: arrays stacked along dim 0.

Law: `gathered(scattered(x, spec, devices), spec, devices)` is x. Of blocks that are said to be copies the first counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec

from conformance.contract.errors import ShardproofError
from conformance.contract.mesh import Mesh
from conformance.trace.jax_ordered import is_key

Spec = PartitionSpec | Sequence[Any]


class ApartError(ShardproofError):
    """A collective that some of its partners do not reach; the message is half a sentence."""


@dataclass(frozen=True, kw_only=True)
class Devices:
    """Those that run a program, by their numbers on some axes, the last axis fastest; dim 0 of an array is one of them.

    axes     axis -> size, of those over which shard_maps hand out blocks; none outside of them, where a value is whole
    numbers  which of them are here: where branches part, not all
    """

    axes: Mapping[str, int]
    numbers: np.ndarray

    @classmethod
    def outside(cls) -> Devices:
        return cls(axes={}, numbers=np.zeros(1, int))

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def coordinates(self) -> dict[str, np.ndarray]:
        places = np.unravel_index(self.numbers, tuple(self.axes.values())) if self.axes else ()
        return dict(zip(self.axes, places, strict=True))

    def some(self, chosen: np.ndarray) -> Devices:
        """Those of a mask."""
        return replace(self, numbers=self.numbers[chosen])

    def divided(self, axes: Mapping[str, int]) -> Devices:
        """Each of them becomes one for every place on further axes."""
        size = math.prod(axes.values())
        numbers = (self.numbers[:, None] * size + np.arange(size)).reshape(-1)
        return Devices(axes={**self.axes, **axes}, numbers=numbers)

    def place(self, axes: Sequence[str]) -> np.ndarray:
        """The number of each along some axes together, the first outermost."""
        place = np.zeros(len(self), int)
        for axis in axes:
            place = place * self.axes[axis] + self.coordinates[axis]
        return place

    def groups(self, axes: Sequence[str]) -> np.ndarray:
        """(group, partner): positions in dim 0 of those that differ along some axes alone, in the order of these.

        Raises ApartError where one of a group is not here.
        """
        size = math.prod(self.axes[axis] for axis in axes)
        within, group = self.place(axes), self.place([axis for axis in self.axes if axis not in axes])
        order = np.lexsort((within, group))
        if len(order) % size or (within[order].reshape(-1, size) != np.arange(size)).any():
            raise ApartError(f"not all partners along {' and '.join(axes)} take the branch of a collective")
        return order.reshape(-1, size)

    def positions(self, mesh: Mesh) -> dict[int, int]:
        """Rank of the mesh -> its position in dim 0, for the ranks that are here."""
        here = {int(number): position for position, number in enumerate(self.numbers)}
        sizes = tuple(self.axes.values())
        found = {}
        for rank in range(mesh.devices):
            place = mesh.coordinates(rank)
            number = int(np.ravel_multi_index([place[axis] for axis in self.axes], sizes)) if sizes else 0
            if number in here:
                found[rank] = here[number]
        return found


def scattered(x: Any, spec: Spec, axes: Mapping[str, int]) -> Any:
    """A value of each device, (device, ...), as blocks of those that each becomes along further axes."""
    size = math.prod(axes.values())
    divided = _divided(spec, axes)
    if not divided and len(x) == 1 and not is_key(x):
        return np.broadcast_to(x[0], (size, *x.shape[1:]))
    if not divided:
        return x[np.repeat(np.arange(len(x)), size)]
    blocks = [x[:, *_index(x.shape[1:], divided, axes, number)] for number in range(size)]
    stack = jax.numpy.stack if is_key(x) else np.stack
    return stack(blocks, 1).reshape(-1, *blocks[0].shape[1:])


def gathered(x: Any, spec: Spec, axes: Mapping[str, int]) -> Any:
    """The inverse: of each device before, the whole that these blocks make up."""
    size = math.prod(axes.values())
    divided = _divided(spec, axes)
    blocks = x.reshape(-1, size, *x.shape[1:])
    if not divided or is_key(x):
        return blocks[:, 0]
    used = {axis for names in divided.values() for axis in names}
    shape = tuple(n * math.prod(axes[a] for a in divided.get(dim, ())) for dim, n in enumerate(x.shape[1:]))
    whole = np.empty((len(blocks), *shape), x.dtype)
    for number, place in enumerate(np.ndindex(*axes.values())):
        if not any(place[n] for n, axis in enumerate(axes) if axis not in used):
            whole[:, *_index(shape, divided, axes, number)] = blocks[:, number]
    return whole


def _divided(spec: Spec, axes: Mapping[str, int]) -> dict[int, tuple[str, ...]]:
    """Dim -> the axes that divide it, the first outermost."""
    entries = [() if entry is None else (entry,) if isinstance(entry, str) else tuple(entry) for entry in spec]
    named = {dim: tuple(axis for axis in entry if axis in axes) for dim, entry in enumerate(entries)}
    return {dim: names for dim, names in named.items() if names}


def _index(
    shape: Sequence[int], divided: Mapping[int, tuple[str, ...]], axes: Mapping[str, int], number: int
) -> tuple[slice, ...]:
    """The block of a whole of some shape that lies at one place along the axes."""
    place = dict(zip(axes, np.unravel_index(number, tuple(axes.values())), strict=True))
    parts = []
    for dim, size in enumerate(shape):
        at, of = 0, 1
        for axis in divided.get(dim, ()):
            at, of = at * axes[axis] + int(place[axis]), of * axes[axis]
        parts.append(slice(at * size // of, (at + 1) * size // of))
    return tuple(parts)
