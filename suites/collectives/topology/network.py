"""Networks of ranks: which links a message takes, and what each of them costs.

A link is crossed in `latency_seconds`. A message keeps it busy for `seconds_per_message`, and for `seconds_per_byte` of
each byte; messages that share a link pass one after the other. A rank begins one message after the other, each of which
keeps it busy for `overhead_seconds`.
Source: Hockney, The Communication Challenge for MPP (1994), latency and bandwidth; Culler et al., LogP: Towards a
Realistic Model of Parallel Computation (1993), the overhead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np

from conformance.contract.errors import ShardproofError

Route = list[tuple[Hashable, "Link"]]  # (which one, its kind), from source to destination


class NetworkError(ShardproofError):
    """A network that cannot be: the message is one sentence."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """One direction of a wire, or a port."""

    latency_seconds: float
    seconds_per_byte: float
    seconds_per_message: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Network(ABC):
    """`ranks` devices; `combine_seconds_per_byte` is what it takes a device to add what has arrived."""

    ranks: int
    overhead_seconds: float = 0.0
    combine_seconds_per_byte: float = 0.0

    @abstractmethod
    def route(self, source: int, destination: int) -> Route:
        """The links of a message, each known by a name that no other one has."""


@dataclass(frozen=True, kw_only=True)
class FullyConnected(Network):
    """A switch: every rank has one port out and one in, and nothing else is shared."""

    link: Link

    def route(self, source: int, destination: int) -> Route:
        into = Link(latency_seconds=0.0, seconds_per_byte=self.link.seconds_per_byte)
        return [(("out", source), self.link), (("in", destination), into)]


@dataclass(frozen=True, kw_only=True)
class Torus(Network):
    """A grid whose rows are rings, ranks counted row by row; a message goes dim by dim, the shorter way round."""

    shape: tuple[int, ...]
    link: Link

    def __post_init__(self) -> None:
        if int(np.prod(self.shape)) != self.ranks:
            raise NetworkError(f"A torus of shape {self.shape} has {np.prod(self.shape)} ranks, not {self.ranks}.")

    def route(self, source: int, destination: int) -> Route:
        return [(hop, self.link) for hop in self._hops(source, destination)]

    def _hops(self, source: int, destination: int) -> Iterator[Hashable]:
        """(place, dim, direction) of every link."""
        here = [int(i) for i in np.unravel_index(source, self.shape)]
        there = [int(i) for i in np.unravel_index(destination, self.shape)]
        for dim, size in enumerate(self.shape):
            ahead = (there[dim] - here[dim]) % size
            direction = 1 if 2 * ahead <= size else -1
            while here[dim] != there[dim]:
                yield tuple(here), dim, direction
                here[dim] = (here[dim] + direction) % size


@dataclass(frozen=True, kw_only=True)
class TwoLevel(Network):
    """Nodes of `node` consecutive ranks: a switch inside, and one link in each direction that a node shares."""

    node: int
    inside: Link
    across: Link

    def __post_init__(self) -> None:
        if self.ranks % self.node:
            raise NetworkError(f"{self.ranks} ranks make no nodes of {self.node}.")

    def route(self, source: int, destination: int) -> Route:
        into = Link(latency_seconds=0.0, seconds_per_byte=self.inside.seconds_per_byte)
        ports: Route = [(("out", source), self.inside), (("in", destination), into)]
        here, there = source // self.node, destination // self.node
        if here == there:
            return ports
        down = Link(latency_seconds=0.0, seconds_per_byte=self.across.seconds_per_byte)
        return [*ports, (("up", here), self.across), (("down", there), down)]


@dataclass(frozen=True, kw_only=True)
class SharedMemory(Network):
    """All messages go through one memory and few cores: emulated devices of one machine."""

    link: Link

    def route(self, source: int, destination: int) -> Route:
        return [("memory", self.link)]
