"""Many parameters in one vector: where each of them lies, on every rank of the pipeline axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np

from suites.training.jax.state import Named

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Vector:
    """The layout of the vectors of all devices, which are of one length: the longest one's.

    shapes  name -> shape of the block of a parameter, the same on all devices that hold it
    ranks   rank -> names of what it holds, in order
    """

    shapes: Mapping[str, Shape]
    ranks: Sequence[Sequence[str]]

    @cached_property
    def starts(self) -> tuple[Mapping[str, int], ...]:
        """rank -> name -> where the block begins."""
        starts: list[dict[str, int]] = []
        for names in self.ranks:
            ends = np.cumsum([0, *map(self.size, names)])
            starts.append(dict(zip(names, map(int, ends), strict=False)))
        return tuple(starts)

    @cached_property
    def length(self) -> int:
        return max(sum(map(self.size, names)) for names in self.ranks)

    def size(self, name: str) -> int:
        """Elements of a block."""
        return math.prod(self.shapes[name])

    def unpacked(self, vector: jax.Array, rank: int) -> Named:
        """The vector of a device of this rank -> its blocks by name."""
        flat = vector.reshape(-1)
        return {
            name: flat[start : start + self.size(name)].reshape(self.shapes[name])
            for name, start in self.starts[rank].items()
        }

    def added(self, vector: jax.Array, blocks: Named, rank: int) -> jax.Array:
        """The vector with blocks added where they belong."""
        flat = vector.reshape(-1)
        for name, block in blocks.items():
            start = self.starts[rank][name]
            flat = flat.at[start : start + block.size].add(block.reshape(-1).astype(flat.dtype))
        return flat.reshape(vector.shape)

    def elements(self, wanted: Callable[[str], bool]) -> np.ndarray:
        """[ranks, length]: whether an element belongs to a parameter of one of these names."""
        marked = np.zeros((len(self.ranks), self.length), bool)
        for rank, starts in enumerate(self.starts):
            for name, start in starts.items():
                marked[rank, start : start + self.size(name)] = wanted(name)
        return marked
