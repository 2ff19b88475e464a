"""`python -m suites.collectives.measure.in_torch RANKS`: timings as JSON, of so many processes over gloo."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing

from suites.collectives.measure.timings import NATIVE, OPERAND_BYTES, Timing, schedules, timed, written
from suites.collectives.schedule import Schedule
from suites.collectives.torch_manual.executor import carried_out
from suites.collectives.torch_manual.joint_axis import JointAxis


def main(ranks: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_rank, args=(ranks, folder), nprocs=ranks)
        print(Path(folder, "timings.json").read_text())


def _rank(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    axis = JointAxis(rank=rank, size=ranks, group=dist.group.WORLD)
    timings = [timing for size in OPERAND_BYTES for timing in _timings(axis, size)]
    if rank == 0:
        Path(folder, "timings.json").write_text(written(timings))
    dist.barrier()
    dist.destroy_process_group()


def _timings(axis: JointAxis, size: int) -> list[Timing]:
    operand = torch.ones(size // 4)
    runs: dict[str, Callable[[], object]] = {}
    runs |= {name: partial(_run, plan, operand, axis) for name, plan in schedules(axis.size).items()}
    runs[NATIVE] = partial(axis.all_reduce, operand)
    return [_timing(axis, name, run, size) for name, run in runs.items()]


def _run(plan: Schedule, operand: torch.Tensor, axis: JointAxis) -> torch.Tensor:
    padded = torch.nn.functional.pad(operand, (0, -operand.numel() % plan.blocks)).reshape(plan.blocks, -1)
    return carried_out(plan, padded, axis).reshape(-1)[: operand.numel()]


def _timing(axis: JointAxis, name: str, run: Callable[[], object], size: int) -> Timing:
    def together() -> None:
        run()
        dist.barrier()  # until the last rank is done

    median, shortest = timed(together)
    return Timing(
        framework="torch",
        ranks=axis.size,
        algorithm=name,
        operand_bytes=size,
        seconds=median,
        shortest_seconds=shortest,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
