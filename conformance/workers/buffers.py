"""Buffers: what a value holds in memory, array by array and rank by rank; arrays that share a memory are one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conformance.evidence.evidence import Copy


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """One array on one rank.

    path    where in the value it is, `['optimizer']['momentum']['w']`; of what is collected, its name
    memory  which memory it is, as long as its owner lives
    read    its elements, as numpy has them
    given   whether its owner has been given away, whoever has the memory now (JAX: donated)
    """

    path: str
    rank: int
    memory: Hashable
    bytes: int
    read: Callable[[], np.ndarray]
    given: Callable[[], bool] = lambda: False


def distinct(buffers: Iterable[Buffer]) -> tuple[Buffer, ...]:
    """One buffer for each memory of a rank; empty ones hold nothing."""
    return tuple({(buffer.rank, buffer.memory): buffer for buffer in buffers if buffer.bytes}.values())


def total(buffers: Iterable[Buffer]) -> dict[int, int]:
    """Rank -> bytes of distinct buffers."""
    sizes: dict[int, int] = {}
    for buffer in buffers:
        sizes[buffer.rank] = sizes.get(buffer.rank, 0) + buffer.bytes
    return sizes


def reused(before: Iterable[Buffer], after: Iterable[Buffer]) -> dict[int, int]:
    """Rank -> bytes of what was given away, or whose memory is that of something in `after`.

    The owners of `before` must still be there, or their memory is anybody's.
    """
    taken = {(buffer.rank, buffer.memory) for buffer in after}
    return total(buffer for buffer in before if buffer.given() or (buffer.rank, buffer.memory) in taken)


def copies(state: Sequence[Buffer], collected: Sequence[Buffer]) -> tuple[Copy, ...]:
    """The parameters whose bits lie in the state more often than among all that is collected of it.

    Law: a program that hands over all that it keeps has none, whatever it keeps twice (a master copy in the dtype of
    the parameters) and however it hands it over (as it is, or copied). An array of one value everywhere is no copy.
    """
    held, listed = total(state), total(collected)
    if all(held[rank] <= listed.get(rank, 0) for rank in held):
        return ()
    known = _by_bits(collected)
    made: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for (rank, bits), same in _by_bits(state).items():
        handed = (array.path for array in known.get((rank, bits), ()))
        parameter = next((path for path in handed if path.startswith("parameters/")), None)
        if parameter is not None and len(same) > len(known[rank, bits]):
            paths = " and ".join(buffer.path for buffer in same)
            made[paths, parameter][rank] = (len(same) - len(known[rank, bits])) * same[0].bytes
    return tuple(Copy(path=path, parameter=name, bytes=size) for (path, name), size in made.items())


def _by_bits(buffers: Sequence[Buffer]) -> Mapping[tuple[int, bytes], list[Buffer]]:
    alike: dict[tuple[int, bytes], list[Buffer]] = defaultdict(list)
    for buffer in buffers:
        array = buffer.read()
        if array.size and not (array == array.reshape(-1)[0]).all():
            said = f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
            alike[buffer.rank, hashlib.blake2b(said, digest_size=16).digest()].append(buffer)
    return alike
