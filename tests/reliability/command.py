"""A `shardproof run` in a process of its own: its records as they appear, and every process that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import psutil

from tests.reliability.injuries import MARK, process_file

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE = 300.0


def case(framework: str, program: str = "", mesh: str = "tensor2") -> str:
    """The id of a case of one program of `hurt_<framework>.py`, or of the conforming one of the suite."""
    own = {"jax": "jax-shard_map", "torch": "torch-collectives"}[framework]
    name = f"{HERE / f'hurt_{framework}.py'}:{program}" if program else own
    return f"collectives/all_reduce_sum[{name}-{mesh}-float64]"


class Command:
    """The command; `program` is what the interpreter runs instead of it, with the same words."""

    def __init__(self, *words: str, program: str | None = None) -> None:
        self.mark = uuid.uuid4().hex
        start = ["-c", program] if program else ["-m", "conformance.cli.main"]
        environment = {**os.environ, MARK: self.mark, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        self.process = subprocess.Popen(
            [sys.executable, *start, *words],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
        )

    def ended(self) -> tuple[int, str]:
        """Exit status, and what it said on stderr."""
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said

    def hurt(self) -> psutil.Process:
        """The process that an injured program is about to hurt, once its case is at work."""
        file, deadline = process_file(self.mark), time.monotonic() + PATIENCE
        while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process = psutil.Process(int(file.read_text()))
        file.unlink()
        return process

    def left(self) -> int:
        return left(self.mark)


def processes(mark: str) -> list[psutil.Process]:
    """Those that carry the mark and do not only wait to be buried."""
    return [process for process in psutil.process_iter() if _carries(process, mark)]


def _carries(process: psutil.Process, mark: str) -> bool:
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    return False


def left(mark: str, seconds: float = 15.0) -> int:
    """Processes that are still there so long after the command has ended; they are ended then."""
    deadline = time.monotonic() + seconds
    while (alive := processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    return len(alive)


def until_records(folder: Path, number: int, seconds: float = PATIENCE) -> float:
    """Wait for so many records; the time (monotonic seconds) at which they were there."""
    path, deadline = folder / "cases.jsonl", time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= number:
            return time.monotonic()
        time.sleep(0.05)
    raise TimeoutError(f"{folder} has not got {number} records within {seconds:.0f} s.")
