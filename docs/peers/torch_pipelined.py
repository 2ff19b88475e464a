"""torch: `pipelining` over `pipeline`, FSDP2 over `data` and `parallelize_module` over `tensor`, composed."""

import torch
import torch.distributed as dist
from perceptron import module
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from conformance import Sharded

MESH = "data=2,pipeline=2,tensor=2"


def candidate(parameters, batch, mesh):
    number, rank = mesh.get_local_rank("pipeline"), mesh.get_local_rank("data")
    stage = module(parameters)[:2] if number == 0 else module(parameters)[2:]
    style = RowwiseParallel(input_layouts=Replicate()) if number else ColwiseParallel(output_layouts=Replicate())
    parallelize_module(stage, mesh["tensor"], {"0": style})
    fully_shard(stage, mesh=mesh["data"])
    pipe = PipelineStage(stage, number, 2, torch.device("cpu"), group=mesh.get_group("pipeline"))
    x, losses = batch["x"].chunk(2)[rank], []
    schedule = ScheduleGPipe(pipe, n_microbatches=2, loss_fn=lambda y, target: (y**2).mean())
    y = schedule.step(*([x] if number == 0 else []), target=x, losses=losses)
    grad, name = stage[0].weight.grad.full_tensor().T, ("up", "down")[number]
    seen = {f"gradients/{name}": Sharded(local=grad, placements={"pipeline": f"O({number})"}, shape=tuple(grad.shape))}
    if number == 1:
        loss = torch.stack(losses).mean().detach() / 2
        dist.all_reduce(loss, group=mesh.get_group("data"))
        rows = Sharded(local=y.detach(), placements={"data": "S(0)", "pipeline": "O(1)"}, shape=(16, 12))
        seen |= {"loss": Sharded(local=loss, placements={"pipeline": "O(1)"}, shape=()), "outputs/y": rows}
    return seen
