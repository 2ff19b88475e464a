"""torch pipelining, rows that microbatches do not divide: inference returns rows that were never in the batch.

python reproduce.py
"""

import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

ROWS, MICROBATCHES = 8, 6


class Twice(torch.nn.Module):
    def forward(self, x):
        return 2 * x


def run(rank: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29780", "RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo")
    x = torch.arange(1.0, ROWS + 1)[:, None]
    schedule = ScheduleGPipe(PipelineStage(Twice(), rank, 2, torch.device("cpu")), MICROBATCHES)
    returned = schedule.eval(*([x] if rank == 0 else []))
    if rank == 1:
        numbers = f"returned {returned.flatten().tolist()}, one device {(4 * x).flatten().tolist()}"
        print(f"{ROWS} rows in {MICROBATCHES} microbatches: {len(returned)} rows, {numbers}")
        sys.stdout.flush()
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(run, nprocs=2)
