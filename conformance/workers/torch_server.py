"""The torch fork server: imports torch once, then forks fleets of ranks in a second. Never has JAX in it."""

from __future__ import annotations

import datetime
import gc
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from conformance.cases.importing import take_folders
from conformance.cases.suite import ImplementationEntry, suites
from conformance.workers.process import answer_jobs, connect, die_with_parent, importing, log_to

_LOG = logging.getLogger("shardproof.workers")

COLLECTIVE_TIMEOUT = datetime.timedelta(hours=2)  # the parent's timeout comes first, and tells more


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One rank of a fleet."""

    name: str  # of the fleet
    world: int
    number: int
    port: int
    devices: str = "emulated"

    @property
    def environment(self) -> dict[str, str]:
        """What a launcher tells its processes (docs.pytorch.org, torchrun); all ranks are on this machine."""
        places = {"RANK": self.number, "LOCAL_RANK": self.number, "ROLE_RANK": self.number, "GROUP_RANK": 0}
        sizes = {"WORLD_SIZE": self.world, "LOCAL_WORLD_SIZE": self.world, "ROLE_WORLD_SIZE": self.world}
        numbers = places | sizes | {"GROUP_WORLD_SIZE": 1, "MASTER_PORT": self.port}
        return {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"}


def main(address: str, name: str, log: str) -> None:
    log_to(log)
    die_with_parent()
    os.environ["OMP_NUM_THREADS"] = "1"
    if Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine's own name need not resolve
    connection = connect(address, name)
    if not importing(connection, "torch"):
        return
    import torch

    torch.set_num_threads(1)
    import conformance.trace.torch_stochastic
    import conformance.workers.job_handler
    import conformance.workers.torch_platform  # noqa: F401

    take_folders()
    _preload()
    gc.collect()
    gc.freeze()  # ranks share these pages until somebody writes on them, and a collection writes on all
    _wait_for_turns()
    connection.send(("ready", ""))
    _serve(connection, address)


def _wait_for_turns() -> None:
    """A rank that a message wakes does not interrupt another: where they share cores, gloo takes a fifth of the CPU."""
    with suppress(AttributeError, OSError):  # Linux only
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _preload() -> None:
    """Import here, once, what every rank of every fleet would import; one that fails is reported by the rank."""
    known = suites().values()
    paths = {contract.references.get("torch", "") for suite in known for contract in suite.contracts}
    paths |= {path for suite in known for entry in suite.implementations for path in _classes(entry)}
    for module in sorted({path.partition(":")[0] for path in paths} - {""}):
        try:
            import_module(module)
        except Exception:
            _LOG.debug("'%s' does not import in the fork server.", module, exc_info=True)


def _classes(entry: ImplementationEntry) -> list[str]:
    return list(entry.classes.values()) if entry.framework == "torch" else []


def _serve(connection: Connection, address: str) -> None:
    """Fork on request ('fleet', name, world, processes, folder, devices), and say how one has ended ('ended', pid).

    'visible' asks which devices torch shows.
    """
    while True:
        try:
            request, *details = connection.recv()
        except EOFError:
            os._exit(0)
        if request == "fleet":
            name, world, processes, folder, devices = details
            fleet = Rank(name=name, world=world, number=0, port=_free_port(), devices=devices)
            ranks = [replace(fleet, number=number) for number in range(processes)]
            connection.send([_forked(connection, address, rank, folder) for rank in ranks])
        elif request == "visible":
            connection.send(_asked_elsewhere(_visible))
        elif request == "ended":
            connection.send(_ended(*details))


def _visible() -> str:
    from conformance.workers.torch_device import visible

    return visible().words


def _asked_elsewhere(question: Callable[[], str]) -> str:
    """The answer of a forked process, since one that has looked for accelerators cannot fork others that use them.

    Empty if the process failed; the log says how.
    """
    answer, sender = Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        try:
            sender.send(question())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    sender.close()
    try:
        return str(answer.recv())
    except EOFError:
        return ""
    finally:
        os.waitpid(pid, 0)


def _free_port() -> int:
    """For MASTER_PORT: nobody listens there, since the ranks have met over a file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _forked(connection: Connection, address: str, rank: Rank, folder: str) -> int:
    pid = os.fork()
    if pid == 0:
        connection.close()
        status = 1
        try:
            _rank(address, rank, folder)
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def _ended(pid: int) -> int | None:
    """Exit code of a rank (negative: the signal that ended it), None while it lives."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if ended else None


def _rank(address: str, rank: Rank, folder: str) -> None:
    """One rank of a fleet; a world of one named `reference` has no process group: it runs references."""
    log_to(f"{folder}/{rank.name}-{rank.number}.log")
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from conformance.trace.torch_stochastic import StochasticStep
    from conformance.workers.job_handler import JobHandler
    from conformance.workers.references import References
    from conformance.workers.torch_device import BACKENDS, take
    from conformance.workers.torch_gloo import share_device
    from conformance.workers.torch_platform import TorchPlatform, to_numpy, work
    from conformance.workers.torch_single import TorchSinglePlatform

    connection = connect(address, f"{rank.name}-{rank.number}")
    device_type = take(rank.devices, rank.number)
    if not rank.name.startswith("reference"):
        os.environ.update(rank.environment)
        fake = rank.devices == "single"
        store = FakeStore() if fake else dist.FileStore(f"{folder}/{rank.name}.store", rank.world)  # type: ignore[attr-defined, unused-ignore]
        backend = "fake" if fake else BACKENDS[device_type]
        share_device()
        dist.init_process_group(
            backend, store=store, rank=rank.number, world_size=rank.world, timeout=COLLECTIVE_TIMEOUT
        )
    platform = TorchSinglePlatform(device_type) if rank.devices == "single" else TorchPlatform(device_type)
    answer_jobs(connection, JobHandler(platform, References("torch", to_numpy, work, StochasticStep)))


if __name__ == "__main__":
    main(*sys.argv[1:])
