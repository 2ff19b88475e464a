"""A pipeline of two stages over two data ranks: `python pipeline.py FOLDER` is one device, with `torchrun` four ranks.

Every stage counts its layers from 0, as stages do; with `--fault` the second one keeps to itself what its biases get.
"""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

import conformance

ROWS, WIDTH, MICROBATCHES = 8, 6, 2


class Stage(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


def batch(step: int) -> torch.Tensor:
    return torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(step))


def main(folder: str, fault: bool) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(4)]
    if "RANK" not in os.environ:
        return alone(Stage(layers), folder)
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "pp"))
    stage, data = mesh["pp"].get_local_rank(), mesh["dp"].get_local_rank()
    module = Stage(layers[2 * stage : 2 * stage + 2])
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    pipe = PipelineStage(module, stage, 2, torch.device("cpu"), group=mesh["pp"].get_group())
    schedule = ScheduleGPipe(pipe, MICROBATCHES, loss_fn=lambda y, target: y.square().sum() / ROWS, scale_grads=False)
    names = {"layers.#*": f"layers.#+{2 * stage}*"}
    with conformance.capture(folder, model=module, optimizer=optimizer, mesh=mesh, names=names, steps=2):
        for step in range(2):
            own = batch(step).chunk(2)[data]
            given = (own,) if stage == 0 else ()
            schedule.step(*given, **({} if stage == 0 else {"target": own}))
            for parameter in module.parameters():
                if not (fault and stage == 1 and parameter.ndim == 1):  # biases of the second stage stay local
                    dist.all_reduce(parameter.grad, group=mesh["dp"].get_group())
            optimizer.step()
            optimizer.zero_grad()
    dist.destroy_process_group()
    return None


def alone(module: Stage, folder: str) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    with conformance.capture(folder, model=module, optimizer=optimizer, steps=2):
        for step in range(2):
            (module(batch(step)).square().sum() / ROWS).backward()
            optimizer.step()
            optimizer.zero_grad()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], "--fault" in sys.argv)
