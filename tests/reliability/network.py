"""The network between two hosts is cut while a case is at work; it is mended, and the run goes on."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from conformance.records.recorder import read
from tests.reliability.command import left
from tests.reliability.injuries import MARK
from tests.reliability.row import Row
from tests.reliability.two_hosts import ADDRESSES, World, ended, no_hosts, running, set_link, two_hosts, wait

CUT = "network cut"


def cut(framework: str) -> Row:
    """Two processes of one world, each in a network namespace of its own. RuntimeError where there can be none."""
    if why := no_hosts():
        raise RuntimeError(f"The network cannot be cut here: {why}.")
    mark = uuid.uuid4().hex
    with two_hosts() as prefixes:
        world = World(Path(tempfile.mkdtemp()), framework, ADDRESSES[0], prefixes, {MARK: mark})
        with running(world, *world.cases(3)) as both:
            world.wait_for_step(both)
            set_link("down")
            wait((world.out / "rank1.jsonl").exists)
            for process in both:
                ended(process)
        records, alive = read(world.out).records, left(mark)
        seconds = _resumed(world)
    verdicts = [record.verdict for record in records[1:]]
    return Row(
        injury=CUT,
        where=framework,
        must="crash",
        came=_said(verdicts),
        lost=2 - len(records),
        left=alive,
        next_seconds=seconds,
    )


def _said(verdicts: Sequence[str]) -> str:
    return " ".join(verdicts) or "no record"


def _resumed(world: World) -> float | None:
    """Seconds that the same command takes to its end once the network is there again; None where a case is missing.

    The case that was cut off has its verdict: it is the third one that runs next.
    """
    set_link("up")
    started = time.monotonic()
    with running(world, "--resume", str(world.out), "--devices", "real") as both:
        for process in both:
            ended(process)
    passed = [record for record in read(world.out).records if record.verdict == "pass"]
    return time.monotonic() - started if len(passed) == 2 else None
