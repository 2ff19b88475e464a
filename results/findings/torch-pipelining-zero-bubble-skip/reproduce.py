"""torch pipelining, zero bubble: a stage that hands on a tensor which its own weights need too cannot be differentiated.

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

WIDTH, STAGES, MICROBATCHES = 4, 4, 4


class Stage(nn.Module):
    """A layer; the first stage has two, and hands on what lies between them for the last one to add."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.layer, self.before = number, nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, skip=None):
        skip = self.before(x) if self.number == 0 else skip
        y = self.layer(skip if self.number == 0 else x)
        return y + skip if self.number == STAGES - 1 else (y, skip)


def run(rank: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29781", "RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    modules, x = [Stage(number) for number in range(STAGES)], torch.randn(2 * MICROBATCHES, WIDTH)
    for schedule in (ScheduleInterleaved1F1B, ScheduleInterleavedZeroBubble):
        own = [PipelineStage(modules[n], n, STAGES, torch.device("cpu")) for n in (rank, rank + 2)]
        made = schedule(own, MICROBATCHES, loss_fn=lambda y, target: y.square().mean())
        try:
            made.step(*([x] if rank == 0 else []), target=x)
            said = f"gradient {modules[rank].layer.weight.grad.norm():.6f}"
        except RuntimeError as failure:
            said = next(line.strip() for line in str(failure).splitlines() if line.strip())
        if rank == 0:
            print(f"{schedule.__name__}: {said}")
            sys.stdout.flush()
    os._exit(0)  # the other rank waits for messages that do not come


if __name__ == "__main__":
    torch.manual_seed(0)
    modules, x = [Stage(number) for number in range(STAGES)], torch.randn(2 * MICROBATCHES, WIDTH)
    y = x, None
    for module in modules:
        y = module(*y)
    y.square().mean().backward()
    print(f"one device: gradient {modules[0].layer.weight.grad.norm():.6f}")
    sys.stdout.flush()
    mp.spawn(run, nprocs=2)
