"""torch DTensor on the CPU: every rank draws the same numbers for its shard.

python reproduce.py
"""

import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.tensor import Replicate, Shard, empty, init_device_mesh, ones


def run(rank: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29778", "RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    mesh = init_device_mesh("cpu", (2,))
    drawn = empty(4, device_mesh=mesh, placements=[Shard(0)]).normal_()
    kept = torch.nn.functional.dropout(ones(8, device_mesh=mesh, placements=[Shard(0)]), 0.5)
    numbers, mask = (x.redistribute(mesh, [Replicate()]).to_local() for x in (drawn, kept))
    if rank == 0:
        for what, whole in (("normal_", numbers), ("dropout", mask)):
            first, second = whole.chunk(2)
            shards = f"first shard {first.tolist()}, second shard {second.tolist()}"
            print(f"{what}: {shards}, equal: {torch.equal(first, second)}")
        sys.stdout.flush()
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(run, nprocs=2)
