"""Ranks: the trainer of docs/examples/trainer_torch on many processes, which start faster than those of `torchrun`.

`python ranks.py N -- ARGS -- ARGS ...` imports torch once, forks N ranks with the environment of torchrun, and trains
once for each list of arguments. Prints a line with the exit status of each training.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from pathlib import Path

TRAINER = Path(__file__).parents[2] / "docs/examples/trainer_torch"


def main(words: list[str]) -> int:
    sys.path.insert(0, str(TRAINER))
    import train  # type: ignore[import-not-found]

    world, runs, statuses = int(words[0]), _runs(words[1:]), []
    for arguments in runs:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        children = [_forked(train, arguments, rank, world, port) for rank in range(world)]
        statuses.append(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
        print(f"{statuses[-1]} {' '.join(arguments)}", flush=True)
    return max(statuses)


def _runs(words: list[str]) -> list[list[str]]:
    runs: list[list[str]] = []
    for word in words:
        runs.append([]) if word == "--" else runs[-1].append(word)
    return runs


def _forked(train: object, arguments: list[str], rank: int, world: int, port: int) -> int:
    child = os.fork()
    if child:
        return child
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    status = 1
    try:
        import torch

        torch.set_num_threads(1)
        sys.argv = ["train.py", *arguments]
        train.train(train.arguments())  # type: ignore[attr-defined]
        status = 0
    except BaseException:
        if rank == 0:
            traceback.print_exc()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
