"""torch DTensor on a device mesh whose ranks are permuted: a gather returns the blocks in the order of process numbers.

python reproduce.py
"""

import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.tensor import DeviceMesh, DTensor, Replicate, Shard


def run(rank: int, order: list[int]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29777", "RANK": str(rank), "WORLD_SIZE": str(len(order))}
    dist.init_process_group("gloo")
    mesh, x = DeviceMesh("cpu", order), torch.arange(4.0)
    place = mesh.get_coordinate()[0]
    divided = DTensor.from_local(x.chunk(len(order))[place].clone(), mesh, [Shard(0)])
    gathered = divided.redistribute(mesh, [Replicate()]).to_local()
    if rank == 0:
        groups = dist.get_process_group_ranks(mesh.get_group())
        print(f"mesh {order}: group {groups}, gathered {gathered.tolist()}, on one device {x.tolist()}")
        sys.stdout.flush()
    dist.destroy_process_group()


if __name__ == "__main__":
    for order in ([0, 1], [1, 0]):
        mp.spawn(run, (order,), nprocs=2)
