"""A spot: the place of one worker process in a world of many, and what it says of its devices."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass

import psutil

from conformance.workers.launch import Launch

COLLECTIVE_SECONDS = 20.0  # after which a torch collective fails in a world of several parents
HEARTBEAT_SECONDS = 10  # after which a JAX process ends itself when another one is silent


@dataclass(frozen=True, kw_only=True)
class Spot:
    """Number `rank` of `world` processes, which meet at `host:port`."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    host: str
    port: int

    @classmethod
    def of(cls, launch: Launch, port: int) -> Spot:
        return cls(rank=launch.rank, world=launch.world, local_rank=launch.local_rank,
                   local_world=launch.local_world, host=launch.host, port=port)  # fmt: skip

    @property
    def words(self) -> str:
        """As an argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, words: str) -> Spot:
        return cls(**json.loads(words))


@dataclass(frozen=True, kw_only=True)
class Visible:
    """The devices that a framework shows: how many, and of which platform. `most` None: as many as are asked for."""

    most: int | None
    platform: str

    @property
    def words(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, words: str) -> Visible:
        return cls(**json.loads(words))


def free_port(host: str) -> int:
    with socket.socket() as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])


def interface_to(host: str, port: int) -> str | None:
    """The network interface of this machine that leads to a host; None where that is not known."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port))
        except OSError:
            return None
        own = probe.getsockname()[0]
    names = psutil.net_if_addrs().items()
    return next((name for name, addresses in names if any(address.address == own for address in addresses)), None)
