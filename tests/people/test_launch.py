"""What a launcher says: read as a world, or refused with one sentence; parents that meet, and those that do not."""

from __future__ import annotations

import threading

import pytest

from conformance.cases.usage import UsageError
from conformance.workers import meeting
from conformance.workers.launch import Launch, launched
from conformance.workers.meeting import call, wait_for_peers
from conformance.workers.spot import free_port

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a",
            "MASTER_PORT": "29500"}  # fmt: skip
JAX = {"JAX_PROCESS_ID": "2", "JAX_NUM_PROCESSES": "3", "JAX_COORDINATOR_ADDRESS": "b:1234"}


def test_both_launchers_are_read() -> None:
    assert launched(TORCHRUN) == Launch(rank=1, world=4, host="a", port=29500, local_rank=1, local_world=2)
    assert launched(JAX) == Launch(rank=2, world=3, host="b", port=1234)


@pytest.mark.parametrize("environment", [{}, {"HOME": "/"}, TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"}])
def test_a_process_alone_is_no_world(environment: dict[str, str]) -> None:
    assert launched(environment) is None


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"RANK": "0"}, "WORLD_SIZE and MASTER_ADDR and MASTER_PORT must be set besides RANK"),
        (TORCHRUN | {"RANK": "4"}, "RANK=4 is no process of WORLD_SIZE=4"),
        (TORCHRUN | {"WORLD_SIZE": "many"}, "WORLD_SIZE=many is no number"),
        (JAX | {"JAX_COORDINATOR_ADDRESS": "b"}, "is no address: write host:port"),
    ],
)
def test_half_a_launch_is_refused(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        launched(environment)


def world(rank: int, port: int, size: int = 2) -> Launch:
    return Launch(rank=rank, world=size, host="127.0.0.1", port=port)


def in_thread(*arguments: object) -> threading.Thread:
    thread = threading.Thread(target=call, args=arguments, daemon=True)
    thread.start()
    return thread


def test_parents_meet_and_speak() -> None:
    port, heard = free_port("127.0.0.1") - 1, []

    def follower() -> None:
        connection = call(world(1, port), "v1")
        heard.append(connection.recv())
        connection.send("yes")

    thread = threading.Thread(target=follower, daemon=True)
    thread.start()
    [peer] = wait_for_peers(world(0, port), "v1")
    peer.connection.send("all here?")
    assert peer.connection.recv() == "yes"
    thread.join()
    assert heard == ["all here?"]


@pytest.mark.parametrize(
    ("other", "version", "sentence"),
    [(2, "v2", "another version of shardproof"), (3, "v1", "started in a world of 3, rank 0 in one of 2")],
)
def test_a_world_of_strangers_is_refused(other: int, version: str, sentence: str) -> None:
    port = free_port("127.0.0.1") - 1
    in_thread(world(1, port, other), version)
    with pytest.raises(UsageError, match=sentence):
        wait_for_peers(world(0, port), "v1")


def test_who_is_missing_is_named(monkeypatch) -> None:
    monkeypatch.setattr(meeting, "MEETING_SECONDS", 1.5)
    port = free_port("127.0.0.1") - 1
    in_thread(world(2, port, 3), "v1")
    with pytest.raises(UsageError, match=r"Of 3 processes 2 have met .* rank 1 is missing"):
        wait_for_peers(world(0, port, 3), "v1")
