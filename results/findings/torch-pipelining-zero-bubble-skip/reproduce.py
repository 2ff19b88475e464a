"""torch pipelining, zero bubble: a stage that hands on what its own weights need too cannot be differentiated.

python reproduce.py
"""

import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import ScheduleInterleaved1F1B, ScheduleInterleavedZeroBubble

WIDTH, STAGES, MICROBATCHES, TWO_LAYERS = 4, 4, 4, 1


class Stage(nn.Module):
    """A layer; stage 1 has one more before it, and hands on what lies between them for the last stage to add."""

    def __init__(self, number):
        super().__init__()
        self.number, self.before, self.layer = number, nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, skip=None):
        if self.number == TWO_LAYERS:
            x = skip = self.before(x)
        y = self.layer(x)
        if self.number == STAGES - 1:
            return y + skip
        return y if skip is None else (y, skip)


def made():
    torch.manual_seed(0)
    return [Stage(number) for number in range(STAGES)], torch.randn(2 * MICROBATCHES, WIDTH)


def gradient(modules):
    return f"gradient {modules[TWO_LAYERS].layer.weight.grad.norm():.6f}"


def run(rank: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29781", "RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo")
    for schedule in (ScheduleInterleaved1F1B, ScheduleInterleavedZeroBubble):
        modules, x = made()
        stages = [PipelineStage(modules[n], n, STAGES, torch.device("cpu")) for n in (rank, rank + 2)]
        try:
            run_by = schedule(stages, MICROBATCHES, loss_fn=lambda y, target: y.square().mean())
            run_by.step(*([x] if rank == 0 else []), target=x)
            said = gradient(modules) if rank == TWO_LAYERS else ""
        except RuntimeError as failure:
            said = next(line.strip() for line in str(failure).splitlines() if line.strip())
        if rank == TWO_LAYERS:
            print(f"{schedule.__name__}: {said}")
            sys.stdout.flush()
    os._exit(0)  # the other rank may wait for what does not come


if __name__ == "__main__":
    modules, x = made()
    y = (x,)
    for module in modules:
        y = module(*y) if isinstance(y, tuple) else module(y)
    y.square().mean().backward()
    print("one device:", gradient(modules))
    sys.stdout.flush()
    mp.spawn(run, nprocs=2)
