"""A save that is killed leaves no checkpoint, or a whole one: real processes, ended by SIGKILL at random moments.

One process per framework does the work, so that pytest itself imports neither: it forks a writer that saves state after
state, kills it, and does so again; then it loads every folder that it finds and reports what came of it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from suites.data.contracts import CONTRACTS

KILLS = 10
LONGEST_SECONDS = 0.5  # that a writer lives after the awaited folder has appeared: a few saves
STARTING_SECONDS = 60.0
CONTRACT = next(contract for contract in CONTRACTS if contract.name == "data/language_model")


def jax_training() -> tuple[Any, Callable[[], Any]]:
    """The implementation, and what makes its mesh: no thread may run before the fork."""
    import jax
    import orbax.checkpoint  # noqa: F401 - once, not in every writer

    from suites.data.jax_manual.zero3 import LanguageModel

    mesh = Mesh.parse("data=2,fsdp=2")
    return LanguageModel(CONTRACT, mesh, "float32"), lambda: jax.make_mesh((2, 2), ("data", "fsdp"))


def torch_training() -> tuple[Any, Callable[[], Any]]:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    from suites.data.torch_manual.zero3 import LanguageModel

    def alone() -> Any:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        return init_device_mesh("cpu", (1, 1), mesh_dim_names=("data", "fsdp"))

    return LanguageModel(CONTRACT, Mesh.parse("data=1,fsdp=1"), "float32"), alone


def write_until_killed(training: Any, mesh: Any, folder: Path) -> None:
    """Save number k is that of the canonical parameters of seed k."""
    for number in count():
        state = training.place(CONTRACT.parameters(number), mesh)
        (folder / str(number)).mkdir()
        training.save(state, folder / str(number))


def killed(training: Any, make_mesh: Callable[[], Any], folder: Path, awaited: str, delay_seconds: float) -> None:
    """Start a writer, and kill it some time after the awaited save has begun."""
    folder.mkdir()
    writer = os.fork()
    if writer == 0:
        try:
            write_until_killed(training, make_mesh(), folder)
        finally:
            os._exit(1)
    began = time.monotonic()
    while not (folder / awaited).exists() and time.monotonic() - began < STARTING_SECONDS:
        time.sleep(0.001)
    time.sleep(delay_seconds)
    os.kill(writer, signal.SIGKILL)
    _, status = os.waitpid(writer, 0)
    assert os.WIFSIGNALED(status), "The writer ended before it was killed."


def outcome(training: Any, mesh: Any, folder: Path) -> str:
    """What loading a folder comes to: `refused`, `same` or `other`."""
    try:
        state = training.load(folder, mesh)
    except Exception:
        return "refused"
    expected = training.place(CONTRACT.parameters(int(folder.name)), mesh)
    return "same" if bits(training, state) == bits(training, expected) else "other"


def bits(training: Any, state: Any) -> dict[str, bytes]:
    """Name -> the bytes of what a checkpoint of this state holds."""
    return {name: np.asarray(value).tobytes() for name, value in dict(training.saved(state)).items()}


def main(framework: str, root: Path) -> None:
    """Print, for every writer, what came of each of its folders in their order."""
    training, make_mesh = {"jax": jax_training, "torch": torch_training}[framework]()
    delays = random.Random(framework)
    folders = [root / str(kill) for kill in range(KILLS)]
    for kill, folder in enumerate(folders):  # a first save is slower than others: every second writer lives to end it
        killed(training, make_mesh, folder, str(kill % 2), delays.uniform(0, LONGEST_SECONDS))
    mesh = make_mesh()
    saves = [sorted(folder.iterdir(), key=lambda save: int(save.name)) for folder in folders]
    print(json.dumps([[outcome(training, mesh, save) for save in row] for row in saves]))


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_what_a_killed_writer_leaves_is_refused_or_whole(framework: str, tmp_path: Path) -> None:
    if find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, framework, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | devices, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    finished = [result for row in rows for result in row[:-1]]
    last = [row[-1] for row in rows]
    assert finished == ["same"] * len(finished)  # a save that has returned is whole
    assert finished, "No save was finished: what a whole one comes to has not been tested."
    assert set(last) <= {"same", "refused"}
    assert "refused" in last, "No save was interrupted: nothing has been tested."


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
