"""A world of two processes: the same command on both, one set of records; what happens when one is lost or cut off."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conformance.records.recorder import read
from tests.reliability.two_hosts import ADDRESSES, PACKAGES, World, ended, no_hosts, running, set_link, two_hosts, wait

VERDICT_SECONDS = 30.0


@pytest.fixture
def hosts() -> Iterator[list[list[str]]]:
    if why := no_hosts():
        pytest.skip(why)
    with two_hosts() as prefixes:
        yield prefixes


def test_a_process_that_is_killed_costs_one_case_and_the_run_goes_on_later(tmp_path: Path) -> None:
    world = World(tmp_path, "torch")
    with running(world, *world.cases(3)) as processes:
        world.wait_for_step(processes)
        time.sleep(0.8)  # a step is finished: what one process has of it is no wrong result
        os.killpg(processes[1].pid, signal.SIGKILL)
        assert wait(lambda: world.recorded() == 2) < VERDICT_SECONDS
        status, said = ended(processes[0])
    assert status == 1, said
    assert "rank 1" in said
    assert f"2 of 3 cases are recorded; go on with shardproof run --resume {world.out}" in said
    results = read(world.out)
    assert [record.verdict for record in results.records] == ["pass", "crash"]
    assert results.run.devices == "real"
    assert {seen["platform"] for seen in results.run.machine["accelerators"]} == {"cpu"}
    assert "rank 1" in results.records[1].reason
    with running(world, "--resume", str(world.out), "--devices", "real") as processes:
        outcomes = [ended(process) for process in processes]
    assert outcomes[1][0] == 0, outcomes[1]
    assert [record.verdict for record in read(world.out).records] == ["pass", "crash", "pass"]


@pytest.mark.parametrize("framework", PACKAGES)
def test_a_cut_network_is_a_verdict_on_both_sides(tmp_path: Path, hosts, framework: str) -> None:
    world = World(tmp_path, framework, ADDRESSES[0], hosts)
    with running(world, *world.cases(2)) as processes:
        world.wait_for_step(processes)
        set_link("down")
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
