"""Ranks: a script of torch on many processes, which start faster than those of `torchrun`.

`python ranks.py N SCRIPT -- ARGS -- ARGS ...` imports torch once, forks N ranks with the environment of torchrun, and
runs the script once for each list of arguments. Prints a line with the exit status of each.
"""

from __future__ import annotations

import os
import runpy
import socket
import sys
import traceback
from pathlib import Path

import torch


def main(words: list[str]) -> int:
    world, script, statuses = int(words[0]), words[1], []
    sys.path.insert(0, str(Path(script).parent))
    for arguments in _runs(words[2:]):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        children = [_forked(script, arguments, rank, world, port) for rank in range(world)]
        statuses.append(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
        print(f"{statuses[-1]} {' '.join(arguments)}", flush=True)
    return max(statuses)


def _runs(words: list[str]) -> list[list[str]]:
    runs: list[list[str]] = []
    for word in words:
        runs.append([]) if word == "--" else runs[-1].append(word)
    return runs


def _forked(script: str, arguments: list[str], rank: int, world: int, port: int) -> int:
    child = os.fork()
    if child:
        return child
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    status = 1
    try:
        torch.set_num_threads(1)
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")
        status = 0
    except BaseException:
        if rank == 0:
            traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
