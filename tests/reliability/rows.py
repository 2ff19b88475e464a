"""The rows: every injury, what must come out of it, and what did."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

from conformance.records.recorder import read
from tests.reliability import network
from tests.reliability.command import Command, case, until_records
from tests.reliability.row import Row

HANGS_AFTER, PATIENT = "30", "120"  # seconds until a case counts as hanging; where another verdict is due
FRAMEWORKS = ("jax", "torch")


Injury = Callable[[], Row]
IN_A_CASE = (
    ("deadlock", "Deadlocks", "hang"),
    ("abort", "Aborts", "crash"),
    ("exception on one rank", "Raises", "error"),
    ("sleep", "Sleeps", "hang"),
    ("out of memory", "EatsMemory", "crash"),
)


SMALL = """
import psutil
from conformance.cli.main import main
from conformance.workers import pool
pool.MEMORY_SHARE = 2 * 2**30 / psutil.virtual_memory().total  # so that the machine keeps the rest
main()
"""


def in_a_case(injury: str, program: str, framework: str, must: str) -> Row:
    """The program is the first case of a run, a conforming one comes behind it in the same workers."""
    folder = Path(tempfile.mkdtemp()) / "out"
    seconds = HANGS_AFTER if must == "hang" else PATIENT
    words = (*_cases(framework, program), "--output", str(folder), "--timeout", seconds)
    command = Command("run", *words, program=SMALL)
    until_records(folder, 1)
    return _judged(injury, framework, must, command, folder)


def _cases(framework: str, program: str) -> list[str]:
    return ["--case", case(framework, program), "--case", case(framework, mesh="tensor3")]


def _judged(injury: str, where: str, must: str, command: Command, folder: Path) -> Row:
    """Of a run whose first case, the injured one, has its record."""
    hurt = time.monotonic()
    seconds = until_records(folder, 2) - hurt
    command.ended()
    records = {record.implementation.rpartition(":")[2]: record for record in read(folder).records}
    injured = [record for name, record in records.items() if name not in ("jax-shard_map", "torch-collectives")]
    after = [record for record in records.values() if record not in injured]
    return Row(
        injury=injury,
        where=where,
        must=must,
        came=injured[0].verdict if injured else "no record",
        lost=2 - len(records),
        left=command.left(),
        next_seconds=seconds if after and after[0].verdict == "pass" else None,
    )


def killed(name: str, framework: str) -> Row:
    """SIGKILL for the worker, in torch for its last rank, while its case sleeps."""
    folder = Path(tempfile.mkdtemp()) / "out"
    command = Command("run", *_cases(framework, "Sleeps"), "--output", str(folder), "--timeout", PATIENT)
    command.hurt().kill()
    until_records(folder, 1)
    return _judged(name, framework, "crash", command, folder)


def ended_main(number: signal.Signals, injury: str, must: str) -> Row:
    """A signal for the main process when one case is recorded and another is at work; then `--resume`."""
    folder = Path(tempfile.mkdtemp()) / "out"
    command = _slow_run(folder)
    os.kill(command.process.pid, number)
    status, _ = command.ended()
    lost = 1 - len(read(folder).records)
    left, (_, seconds) = command.left(), _resumed(folder)
    return Row(
        injury=injury, where="main", must=must, came=f"status {status}", lost=lost, left=left, next_seconds=seconds
    )


def _slow_run(folder: Path, program: str | None = None) -> Command:
    """A run of which one case is recorded, and a slow one at work."""
    words = ("run", "--case", case("jax", mesh="tensor3"), "--case", case("jax", "Slow"), "--output", str(folder))
    command = Command(*words, program=program)
    until_records(folder, 1)
    return command


def _resumed(folder: Path, total: int = 2) -> tuple[int, float | None]:
    """Go on with a run: how many records it has at the end, and the seconds until all were there."""
    started = time.monotonic()
    status, _ = Command("run", "--resume", str(folder)).ended()
    records = [record for record in read(folder).records if record.verdict == "pass"]
    return len(records), time.monotonic() - started if status == 0 and len(records) == total else None


FULL = """
import resource, signal, sys, threading, time
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[sys.argv.index("--output") + 1]) / "cases.jsonl"
def fill():
    while not path.exists() or b"\\n" not in path.read_bytes():
        time.sleep(0.02)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100,) * 2)
threading.Thread(target=fill, daemon=True).start()
from conformance.cli.main import main
main()
"""


def full_disk() -> Row:
    """The main process can write 100 bytes more: no record has room, and half a record must not stay."""
    folder = Path(tempfile.mkdtemp()) / "out"
    command = _slow_run(folder, FULL)
    status, said = command.ended()
    lost = 1 - len(read(folder).records) + len(read(folder).complaints)
    came = f"status {status}: {said.strip().splitlines()[-1] if said.strip() else ''}"
    left, (_, seconds) = command.left(), _resumed(folder)
    came = came.replace(str(folder), "DIR")
    return Row(injury="full disk", where="main", must="status 1: Cannot write", came=came, lost=lost, left=left,
               next_seconds=seconds)  # fmt: skip


def read_only() -> Row:
    """A folder in which nobody can write, root neither; the next run elsewhere is what runs next."""
    command = Command("run", "--case", case("jax"), "--output", "/sys/shardproof")
    status, said = command.ended()
    folder, started = Path(tempfile.mkdtemp()) / "out", time.monotonic()
    again, _ = Command("run", "--case", case("jax"), "--output", str(folder)).ended()
    seconds = time.monotonic() - started if again == 0 else None
    came = f"status {status}: {said.strip()}"
    return Row(injury="read-only folder", where="main", must="status 2: Cannot write to", came=came, lost=0,
               left=command.left(), next_seconds=seconds)  # fmt: skip


def two_runs() -> Row:
    """A second run in the folder of one that is at work is refused, and costs the first nothing."""
    folder = Path(tempfile.mkdtemp()) / "out"
    first = _slow_run(folder)
    started = time.monotonic()
    second = Command("run", "--resume", str(folder))
    status, said = second.ended()
    first_status, _ = first.ended()
    lost = 2 - len(read(folder).records)
    seconds = time.monotonic() - started if first_status == 0 else None
    return Row(injury="two runs in one folder", where="main", must="status 2: Another shardproof",
               came=f"status {status}: {said.strip().replace(str(folder), 'DIR')}", lost=lost,
               left=first.left() + second.left(), next_seconds=seconds)  # fmt: skip


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda line: line[:200],
    "not UTF-8": lambda line: b"\xff\xfe\x00" + line[:50],
    "another JSON": lambda line: b'{"hello": [1, 2]}',
    "no object": lambda line: b"null",
    "a wrong type": lambda line: line.replace(b'"seed":0', b'"seed":"zero"'),
    "a newer schema": lambda line: line.replace(b'"schema_version":1', b'"schema_version":99'),
}


@cache
def _whole() -> Path:
    """A finished run of two cases."""
    folder = Path(tempfile.mkdtemp()) / "out"
    Command("run", "--case", case("jax"), "--case", case("jax", mesh="tensor3"), "--output", str(folder)).ended()
    return folder


def corrupt(kind: str) -> Row:
    """The first of two records is damaged: the second is kept, the first is said and its case run again."""
    folder = Path(shutil.copytree(_whole(), Path(tempfile.mkdtemp()) / "out"))
    first, second = (folder / "cases.jsonl").read_bytes().splitlines()
    (folder / "cases.jsonl").write_bytes(DAMAGES[kind](first) + b"\n" + second + b"\n")
    results = read(folder)
    [complaint] = results.complaints
    _, seconds = _resumed(folder)
    return Row(injury=f"corrupt record: {kind}", where="records", must="line 1 cannot be read",
               came=complaint.partition(", ")[2].partition(" (")[0], lost=1 - len(results.records), left=0,
               next_seconds=seconds)  # fmt: skip


def injuries() -> Iterator[tuple[str, str, Injury]]:
    """Every injury, where it is done, and what does it."""
    for framework in FRAMEWORKS:
        for name, program, must in IN_A_CASE:
            yield name, framework, partial(in_a_case, name, program, framework, must)
        victim = {"jax": "a worker", "torch": "one rank"}[framework]
        yield f"kill -9 of {victim}", framework, partial(killed, f"kill -9 of {victim}", framework)
        yield network.CUT, framework, partial(network.cut, framework)
    yield "kill -9 of main", "main", partial(ended_main, signal.SIGKILL, "kill -9 of main", "status -9")
    yield "interrupt", "main", partial(ended_main, signal.SIGINT, "interrupt", "status 130")
    yield "full disk", "main", full_disk
    yield "read-only folder", "main", read_only
    yield "two runs in one folder", "main", two_runs
    for kind in DAMAGES:
        yield f"corrupt record: {kind}", "records", partial(corrupt, kind)
