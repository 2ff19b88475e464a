"""torch DTensor: `.item()` of a sum that is still pending.

python reproduce.py
"""

import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh


def run(rank: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29779", "RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo")
    mesh, x = init_device_mesh("cpu", (2,)), torch.arange(4.0)
    total = distribute_tensor(x, mesh, [Shard(0)]).sum()
    numbers = f"item {total.item()}, float {float(total)}, full {total.full_tensor()}, one device {x.sum()}"
    print(f"rank {rank}: placements {total.placements}, {numbers}")
    sys.stdout.flush()
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(run, nprocs=2)
