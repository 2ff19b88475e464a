"""A world of two processes on one machine, and two network namespaces with a link that can be cut."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from conformance.records.recorder import read

START_SECONDS = 240.0
PROGRAM = """
import time
from suites.tensor.{package}.feedforward import FeedForward

class Slow(FeedForward):
    framework = "{framework}"

    def step(self, state, batch):
        with open("{steps}", "a") as file:
            file.write(".")
        time.sleep(0.5)
        return super().step(state, batch)
"""
PACKAGES = {"torch": "torch_dtensor", "jax": "jax_manual"}
NAMESPACES = ("shardproof-a", "shardproof-b")
LINKS = ("shardproof0", "shardproof1")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
HOSTS = Path("/etc/netns")  # what `ip netns exec` puts in place of files in /etc
NAMED = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"')
PORT = {"torch": 29611, "jax": 29621}


class World:
    """The command on two processes; a case for each seed."""

    def __init__(
        self,
        folder: Path,
        framework: str,
        host: str = "127.0.0.1",
        prefixes: Sequence[Sequence[str]] = ((), ()),
        marked: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.framework, self.host, self.prefixes = folder, framework, host, prefixes
        self.marked = dict(marked or {})  # in the environment of all that it starts
        self.program = folder / f"slow_{framework}.py"
        self.out, self.steps = folder / "out", folder / "steps"
        self.program.write_text(PROGRAM.format(package=PACKAGES[framework], framework=framework, steps=self.steps))

    def start(self, *more: str) -> list[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "conformance.cli.main", "run", *more]
        return [self._process(rank, command) for rank in (0, 1)]

    def cases(self, seeds: int) -> list[str]:
        """Ids of cases, and where their records go."""
        ids = [f"tensor/mlp[{self.program}:Slow-tensor2-float64{f'-seed{n}' if n else ''}-real]" for n in range(seeds)]
        return [*(word for name in ids for word in ("--case", name)), "--output", str(self.out)]

    def _process(self, rank: int, command: list[str]) -> subprocess.Popen[str]:
        port = PORT[self.framework]
        given = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | self.marked
        if self.framework == "torch":
            given |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": self.host, "MASTER_PORT": str(port)}
        else:
            given |= {"JAX_PROCESS_ID": str(rank), "JAX_NUM_PROCESSES": "2", "JAX_PLATFORMS": "cpu"}
            given |= {"JAX_COORDINATOR_ADDRESS": f"{self.host}:{port}"}
        return subprocess.Popen([*self.prefixes[rank], *command], env=given, text=True, start_new_session=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip

    def recorded(self) -> int:
        records = self.out / "cases.jsonl"
        return records.read_text().count("\n") if records.exists() else 0

    def wait_for_step(self, processes: list[subprocess.Popen[str]]) -> None:
        """Until the first case is recorded and the second one is at work."""
        wait(lambda: self.recorded() == 1, processes)
        assert read(self.out).records[0].verdict == "pass", read(self.out).records[0].reason
        before = self.steps.stat().st_size
        wait(lambda: self.steps.stat().st_size > before, processes)


def wait(until: Callable[[], bool], processes: Sequence[subprocess.Popen[str]] = ()) -> float:
    """Seconds that it takes; all the processes must live."""
    started = time.monotonic()
    while not until():
        dead = [process for process in processes if process.poll() is not None]
        assert not dead, [process.communicate() for process in dead]
        assert time.monotonic() - started < START_SECONDS
        time.sleep(0.05)
    return time.monotonic() - started


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a process -> (exit status, what it said to stderr)."""
    _, said = process.communicate(timeout=START_SECONDS)
    return process.returncode, " ".join(said.split())


def end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@contextmanager
def running(world: World, *more: str) -> Iterator[list[subprocess.Popen[str]]]:
    processes = world.start(*more)
    try:
        yield processes
    finally:
        end(processes)


def no_hosts() -> str:
    """Why two hosts cannot be made here; empty where they can."""
    made = os.geteuid() == 0 and shutil.which("ip") and shutil.which("unshare")
    return "" if made else "network namespaces need root and the commands ip and unshare"


@contextmanager
def two_hosts() -> Iterator[list[list[str]]]:
    """Two network namespaces with a link between them -> what a command begins with to run there."""
    _unlinked()
    _linked()
    try:
        yield [["ip", "netns", "exec", name, *NAMED, name] for name in NAMESPACES]
    finally:
        _unlinked()


def set_link(state: str) -> None:
    """`down` cuts the network, `up` mends it."""
    ip("-n", NAMESPACES[0], "link", "set", LINKS[0], state)


def ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True)


def _unlinked() -> None:
    for name in NAMESPACES:
        ip("netns", "del", name, check=False)
        shutil.rmtree(HOSTS / name, ignore_errors=True)


def _linked() -> None:
    known = "".join(f"{address} {name}\n" for address, name in zip(ADDRESSES, NAMESPACES, strict=True))
    for name in NAMESPACES:
        ip("netns", "add", name)
        (HOSTS / name).mkdir(parents=True)
        (HOSTS / name / "hosts").write_text(f"127.0.0.1 localhost\n{known}")  # JAX looks its own name up
    first, second = NAMESPACES
    ip("link", "add", LINKS[0], "netns", first, "type", "veth", "peer", LINKS[1], "netns", second)
    for name, link, address in zip(NAMESPACES, LINKS, ADDRESSES, strict=True):
        ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
        ip("-n", name, "link", "set", link, "up")
        ip("-n", name, "link", "set", "lo", "up")
