"""torch: `parallelize_module` over `tensor`, FSDP2 over `data`."""

from perceptron import module
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

MESH = "data=2,tensor=2"


def candidate(parameters, batch, mesh):
    model = module(parameters)
    parallelize_module(model, mesh["tensor"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    fully_shard(model, mesh=mesh["data"])
    rank, size = mesh.get_local_rank("data"), mesh.size(0)
    y = model(batch["x"].chunk(size)[rank])
    loss = (y**2).mean()
    loss.backward()  # FSDP2 averages over data
    rows = DTensor.from_local(y.detach(), mesh["data"], [Shard(0)], run_check=False)
    whole = DTensor.from_local(loss.detach() / size, mesh["data"], [Partial()], run_check=False).full_tensor()
    gradients = {"gradients/up": model[0].weight.grad, "gradients/down": model[2].weight.grad}
    return {"loss": whole, "outputs/y": rows} | {name: g.full_tensor().T for name, g in gradients.items()}
