"""Megatron Core: ColumnParallelLinear and RowParallelLinear, on the CPU."""

import torch
from megatron.core import parallel_state
from megatron.core.model_parallel_config import ModelParallelConfig
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear

from conformance import Sharded

MESH = "tensor=2"


def candidate(parameters, batch, mesh):
    if not parallel_state.model_parallel_is_initialized():
        parallel_state.initialize_model_parallel(tensor_model_parallel_size=mesh.size())
    dtype = parameters["up"].dtype
    config = ModelParallelConfig(tensor_model_parallel_size=2, use_cpu_initialization=True, params_dtype=dtype)
    given = {"config": config, "init_method": torch.nn.init.zeros_, "bias": False}
    up = ColumnParallelLinear(12, 16, gather_output=False, **given)
    down = RowParallelLinear(16, 12, input_is_parallel=True, skip_bias_add=True, **given)
    rank = mesh.get_local_rank()
    up.weight.data.copy_(parameters["up"].T.chunk(2, 0)[rank])
    down.weight.data.copy_(parameters["down"].T.chunk(2, 1)[rank])
    y = down(torch.tanh(up(batch["x"])[0]))[0]
    loss = (y**2).mean()
    loss.backward()
    grads = {"up": (up.weight.grad.T, "S(1)", (12, 16)), "down": (down.weight.grad.T, "S(0)", (16, 12))}
    blocks = {f"gradients/{n}": Sharded(local=g, placements={"tensor": p}, shape=s) for n, (g, p, s) in grads.items()}
    return {"loss": loss.detach(), "outputs/y": y.detach()} | blocks
