"""The torch fork server: imports torch once, then forks fleets of ranks in a second. Never has JAX in it."""

from __future__ import annotations

import datetime
import os
import signal
import sys
from typing import Any

from conformance.workers.jobs import CaseJob, MeasureJob, SitesJob, TruthJob
from conformance.workers.process import answer_jobs, connect, die_with_parent, ignore_interrupts, log_to

COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=30)  # the parent's timeout comes first, and tells more


def main(address: str, name: str, log: str) -> None:
    log_to(log)
    ignore_interrupts()
    os.environ["OMP_NUM_THREADS"] = "1"
    if os.path.exists("/sys/class/net/lo"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine's own name need not resolve
    connection = connect(address, name)
    try:
        import torch
    except ImportError as missing:
        connection.send(("missing", f"torch cannot be imported: {missing}."))
        return
    torch.set_num_threads(1)
    import conformance.workers.execute
    import conformance.workers.torch_platform
    import conformance.workers.truth  # noqa: F401
    from conformance.cases import suites

    suites()
    connection.send(("ready", ""))
    _serve(connection, address)


def _serve(connection: Any, address: str) -> None:
    """Fork on request ('fleet', name, world, folder); report how a process ended on request ('ended', pid)."""
    while True:
        try:
            request, *details = connection.recv()
        except EOFError:
            os._exit(0)
        if request == "fleet":
            connection.send([_forked(connection, address, *details, rank) for rank in range(details[1])])
        elif request == "ended":
            connection.send(_ended(*details))


def _forked(connection: Any, address: str, name: str, world: int, folder: str, rank: int) -> int:
    pid = os.fork()
    if pid == 0:
        connection.close()
        try:
            _rank(address, name, world, folder, rank)
        finally:
            os._exit(0)
    return pid


def _ended(pid: int) -> int | None:
    """Exit code of a rank (negative: the signal that ended it), None while it lives."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if found else None


def _rank(address: str, name: str, world: int, folder: str, rank: int) -> None:
    """One rank of a fleet; a world of size 0 is one process without a process group, for references."""
    log_to(f"{folder}/{name}-{rank}.log")
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import torch.distributed as dist

    connection = connect(address, f"{name}-{rank}")
    if not name.startswith("reference"):
        store = dist.FileStore(f"{folder}/{name}.store", world)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=COLLECTIVE_TIMEOUT)
    answer_jobs(connection, _Answers())


class _Answers:
    def __init__(self) -> None:
        from conformance.workers.torch_platform import TorchPlatform, products, to_numpy
        from conformance.workers.truth import References

        self.platform, self.references = TorchPlatform(), References("torch", to_numpy, products)

    def __call__(self, job: Any) -> Any:
        from conformance.workers.execute import Execution

        if isinstance(job, TruthJob):
            return self.references.truth(job)
        if isinstance(job, SitesJob):
            return Execution(job, self.platform).sites()
        if isinstance(job, MeasureJob):
            return Execution(job, self.platform).measured()
        assert isinstance(job, CaseJob)
        return Execution(job, self.platform).evidence()


if __name__ == "__main__":
    main(*sys.argv[1:])
