"""The torch fork server: imports torch once, then forks fleets of ranks in a second. Never has JAX in it."""

from __future__ import annotations

import datetime
import gc
import os
import signal
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

from conformance.cases import Registered, suites
from conformance.workers.process import answer_jobs, connect, die_with_parent, importing, log_to

COLLECTIVE_TIMEOUT = datetime.timedelta(hours=2)  # the parent's timeout comes first, and tells more


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
    import conformance.workers.answers
    import conformance.workers.torch_platform  # noqa: F401

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
        with suppress(Exception):
            import_module(module)


def _classes(entry: Registered) -> list[str]:
    return list(entry.classes.values()) if entry.framework == "torch" else []


def _serve(connection: Connection, address: str) -> None:
    """Fork on request ('fleet', name, world, folder); report how a process ended on request ('ended', pid)."""
    while True:
        try:
            request, *details = connection.recv()
        except EOFError:
            os._exit(0)
        if request == "fleet":
            name, world, folder = details
            connection.send([_forked(connection, address, name, world, folder, rank) for rank in range(world)])
        elif request == "ended":
            connection.send(_ended(*details))


def _forked(connection: Connection, address: str, name: str, world: int, folder: str, rank: int) -> int:
    pid = os.fork()
    if pid == 0:
        connection.close()
        status = 1
        try:
            _rank(address, name, world, folder, rank)
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
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if found else None


def _rank(address: str, name: str, world: int, folder: str, rank: int) -> None:
    """One rank of a fleet; a world of one named `reference` has no process group: it runs references."""
    log_to(f"{folder}/{name}-{rank}.log")
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import torch.distributed as dist

    from conformance.workers.answers import Answers
    from conformance.workers.torch_platform import TorchPlatform, products, to_numpy
    from conformance.workers.truth import References

    connection = connect(address, f"{name}-{rank}")
    if not name.startswith("reference"):
        store = dist.FileStore(f"{folder}/{name}.store", world)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=COLLECTIVE_TIMEOUT)
    answer_jobs(connection, Answers(TorchPlatform(), References("torch", to_numpy, products)))


if __name__ == "__main__":
    main(*sys.argv[1:])
