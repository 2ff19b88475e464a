"""Launch: what a launcher has told this process - which of how many it is, and where number 0 is.

torchrun says it in RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT. For several JAX
processes JAX_PROCESS_ID, JAX_NUM_PROCESSES and JAX_COORDINATOR_ADDRESS (host:port) say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conformance.cases.usage import UsageError

TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
JAX = ("JAX_PROCESS_ID", "JAX_NUM_PROCESSES", "JAX_COORDINATOR_ADDRESS")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One process of a world. The parents of all processes meet at `host`, one port above that of the launcher."""

    rank: int
    world: int
    host: str
    port: int
    local_rank: int = 0
    local_world: int = 1

    @property
    def meeting_port(self) -> int:
        return self.port + 1


def launched(environment: Mapping[str, str]) -> Launch | None:
    """How this process was launched; None where it stands alone. UsageError where only half of it is said."""
    names = next((names for names in (TORCHRUN, JAX) if any(name in environment for name in names[:2])), None)
    if names is None:
        return None
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} must be set besides {names[0]}: start every process with torchrun, or with "
            f"{', '.join(JAX)}."
        )
    rank, world = (_number(environment, name) for name in names[:2])
    host, port = _address(environment, names)
    if not 0 <= rank < world:
        raise UsageError(f"{names[0]}={rank} is no process of {names[1]}={world}: they are counted from 0.")
    if world == 1:
        return None
    local = [_number(environment, name) if name in environment else default
             for name, default in (("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))]  # fmt: skip
    return Launch(rank=rank, world=world, host=host, port=port, local_rank=local[0], local_world=local[1])


def _address(environment: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, int]:
    if names is TORCHRUN:
        return environment["MASTER_ADDR"], _number(environment, "MASTER_PORT")
    host, colon, port = environment[names[2]].rpartition(":")
    if not colon or not port.isdecimal():
        raise UsageError(f"{names[2]}={environment[names[2]]} is no address: write host:port.")
    return host, int(port)


def _number(environment: Mapping[str, str], name: str) -> int:
    if not environment[name].isdecimal():
        raise UsageError(f"{name}={environment[name]} is no number.")
    return int(environment[name])
