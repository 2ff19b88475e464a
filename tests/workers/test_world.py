"""A world of two processes: the same command on both, one set of records; what happens when one is lost or cut off."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.records.recorder import read

VERDICT_SECONDS = 30.0
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
ADDRESSES = ("10.77.0.1", "10.77.0.2")
HOSTS = Path("/etc/netns")  # what `ip netns exec` puts in place of files in /etc
NAMED = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"')
PORT = {"torch": 29611, "jax": 29621}


class World:
    """The command on two processes; a case for each seed."""

    def __init__(self, folder: Path, framework: str, host: str = "127.0.0.1", prefixes=((), ())) -> None:
        self.folder, self.framework, self.host, self.prefixes = folder, framework, host, prefixes
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
        given = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
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


@pytest.fixture
def two_hosts() -> Iterator[tuple[list[str], list[str]]]:
    """Two network namespaces with a link between them -> what a command begins with to run there."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the command ip")
    _links("del")
    _links("add")
    yield tuple(["ip", "netns", "exec", name, *NAMED, name] for name in NAMESPACES)  # type: ignore[misc]
    _links("del")


def _links(what: str) -> None:
    def ip(*words: str, check: bool = True) -> None:
        subprocess.run(["ip", *words], check=check, capture_output=True)

    if what == "del":
        for name in NAMESPACES:
            ip("netns", "del", name, check=False)
            shutil.rmtree(HOSTS / name, ignore_errors=True)
        return
    known = "".join(f"{address} {name}\n" for address, name in zip(ADDRESSES, NAMESPACES, strict=True))
    for name in NAMESPACES:
        ip("netns", "add", name)
        (HOSTS / name).mkdir(parents=True)
        (HOSTS / name / "hosts").write_text(f"127.0.0.1 localhost\n{known}")  # JAX looks its own name up
    ip(
        "link",
        "add",
        "shardproof0",
        "netns",
        NAMESPACES[0],
        "type",
        "veth",
        "peer",
        "shardproof1",
        "netns",
        NAMESPACES[1],
    )
    for number, name in enumerate(NAMESPACES):
        ip("-n", name, "addr", "add", f"{ADDRESSES[number]}/24", "dev", f"shardproof{number}")
        ip("-n", name, "link", "set", f"shardproof{number}", "up")
        ip("-n", name, "link", "set", "lo", "up")


def test_a_process_that_is_killed_costs_one_case_and_the_run_goes_on_later(tmp_path: Path) -> None:
    world = World(tmp_path, "torch")
    with running(world, *world.cases(3)) as processes:
        world.wait_for_step(processes)
        os.killpg(processes[1].pid, signal.SIGKILL)
        assert wait(lambda: world.recorded() == 2) < VERDICT_SECONDS
        status, said = ended(processes[0])
    assert status == 1, said
    assert "rank 1" in said
    assert f"2 of 3 cases are recorded; go on with shardproof run --resume {world.out}" in said
    results = read(world.out)
    assert [record.verdict for record in results.records] == ["pass", "crash"]
    assert results.run.devices == "real"
    assert "rank 1" in results.records[1].reason
    with running(world, "--resume", str(world.out), "--devices", "real") as processes:
        outcomes = [ended(process) for process in processes]
    assert outcomes[1][0] == 0, outcomes[1]
    assert [record.verdict for record in read(world.out).records] == ["pass", "crash", "pass"]


@pytest.mark.parametrize("framework", PACKAGES)
def test_a_cut_network_is_a_verdict_on_both_sides(tmp_path: Path, two_hosts, framework: str) -> None:
    world = World(tmp_path, framework, ADDRESSES[0], two_hosts)
    with running(world, *world.cases(2)) as processes:
        world.wait_for_step(processes)
        subprocess.run(["ip", "-n", NAMESPACES[0], "link", "set", "shardproof0", "down"], check=True)
        sides = (lambda: world.recorded() == 2, (world.out / "rank1.jsonl").exists)
        with ThreadPoolExecutor() as watching:
            seconds = list(watching.map(wait, sides))
        said = [ended(process) for process in processes]
    print(f"{framework}: verdict of rank 0 after {seconds[0]:.1f} s, of rank 1 after {seconds[1]:.1f} s")
    assert max(seconds) < VERDICT_SECONDS, seconds
    assert [status for status, _ in said] == [1, 1], said
    assert [record.verdict for record in read(world.out).records] == ["pass", "crash"]
    lost = json.loads((world.out / "rank1.jsonl").read_text().splitlines()[0])
    assert (lost["verdict"], lost["rank"]) in (("crash", 1), ("error", 1))
    assert "Rank 0 at 10.77.0.1 is lost" in said[1][1]


def test_a_mesh_that_is_not_the_world_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, "torch")
    with running(world, *(word.replace("tensor2", "tensor4") for word in world.cases(1))) as processes:
        outcomes = [ended(process) for process in processes]
    assert outcomes[0][0] == 2
    assert "The mesh tensor=4 has 4 devices, where the 2 processes" in outcomes[0][1]
    assert "have 2 devices (cpu) together" in outcomes[0][1]
