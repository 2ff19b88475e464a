"""A hand-made torch step that communicates in every way torch has, and the four ranks that run it for the tests."""

from __future__ import annotations

import multiprocessing as mp
import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from conformance.cases.case import Mutation
from conformance.contract.mesh import Mesh
from conformance.trace.torch_trace import Mutator, Recorder

MESH = Mesh.parse("data=2,tensor=2@shuffled")


class Reduce(torch.autograd.Function):
    """All-reduce over tensor forward, over data backward, by plain in-place calls."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mesh: DeviceMesh) -> torch.Tensor:
        ctx.mesh, x = mesh, x.clone()
        dist.all_reduce(x, group=mesh.get_group("tensor"))
        return x

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        grad = grads[0].contiguous().clone()
        work = dist.all_reduce(grad, group=ctx.mesh.get_group("data"), async_op=True)
        assert work is not None
        work.wait()
        return grad, None


def explicit(mesh: DeviceMesh) -> dict[str, torch.Tensor]:
    """Plain, asynchronous and functional collectives; each result is used, and every rank has its own numbers."""
    tensor, data = mesh.get_group("tensor"), mesh.get_group("data")
    coordinate = mesh.get_coordinate()
    assert coordinate is not None
    values = torch.Generator().manual_seed(coordinate[0] * 2 + coordinate[1])
    x = torch.randn(4, 6, generator=values, dtype=torch.float64)
    w = torch.randn(6, 6, generator=values, dtype=torch.float64, requires_grad=True)
    h = torch.tanh(Reduce.apply(x @ w, mesh))  # [4, 6]
    with torch.no_grad():
        top = (h + torch.arange(4)[:, None] * coordinate[1]).amax(0)
        dist.all_reduce(top, op=dist.ReduceOp.MAX, group=tensor)
        gathered = torch.empty(8, 6, dtype=torch.float64)
        dist.all_gather_into_tensor(gathered, h.sin() - top, group=data)
        parts = [torch.empty(8, 6, dtype=torch.float64) for _ in range(2)]
        dist.all_gather(parts, gathered.cos() + coordinate[1], group=tensor)
        scattered = torch.empty(4, 6, dtype=torch.float64)
        dist.reduce_scatter_tensor(scattered, (parts[0] - 2 * parts[1]).sin(), group=data)
        exchanged = torch.empty(4, 6, dtype=torch.float64)
        dist.all_to_all_single(exchanged, scattered * (1 + coordinate[1]) + torch.arange(4)[:, None], group=tensor)
    mixed = functional.all_reduce((exchanged * 1.5 + coordinate[1]).cos(), "sum", tensor) * 0.5
    joined = functional.all_gather_tensor(mixed.sin(), 0, data)
    loss = (h * joined[:4] * joined[4:]).sum()
    loss.backward()
    total = loss.detach().clone()
    dist.all_reduce(total)
    assert w.grad is not None
    return {"loss": total, "grad": w.grad, "mixed": mixed, "joined": joined}


def dtensor(mesh: DeviceMesh) -> dict[str, torch.Tensor]:
    """Row-parallel linear by DTensor: y = x @ w with the contracted dim sharded, gradient of w gathered over data."""
    torch.manual_seed(0)
    x = distribute_tensor(torch.randn(8, 6, dtype=torch.float64), mesh, [Shard(0), Shard(1)])
    w = distribute_tensor(torch.randn(6, 4, dtype=torch.float64), mesh, [Replicate(), Shard(0)]).requires_grad_()
    y = (x @ w).redistribute(mesh, [Shard(0), Replicate()])
    loss = y.sin().sum().redistribute(mesh, [Replicate(), Replicate()])
    loss.backward()
    return {"y": y.full_tensor(), "loss": loss.to_local(), "grad": w.grad.full_tensor()}


STEPS: dict[str, Callable[[DeviceMesh], dict[str, torch.Tensor]]] = {"explicit": explicit, "dtensor": dtensor}


def observe(mesh: DeviceMesh) -> dict[str, Any]:
    """Per step: what it gives, what the recorder saw, and what every mutant gives."""
    observed_by_step: dict[str, Any] = {}
    for name, step in STEPS.items():
        right = step(mesh)
        with Recorder(MESH, mesh) as recorder:
            watched = step(mesh)
        mutants = {}
        for site in recorder.sites():
            for operator in site.operators:
                mutation = Mutation(operator=operator, site=site.number)
                with Mutator(mutation, MESH, mesh) as mutator:
                    wrong = step(mesh)
                assert mutator.applied
                mutants[str(mutation)] = _numpy(wrong)
        observed_by_step[name] = {
            "right": _numpy(right),
            "watched": _numpy(watched),
            "sites": recorder.sites(),
            "traffic": recorder.traffic(),
            "flops": recorder.flops(),
            "mutants": mutants,
        }
    return observed_by_step


def _numpy(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def _rank(process: int, port: int, queue: Any) -> None:
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, MESH.devices, process == 0, timeout=timedelta(seconds=60))
    dist.init_process_group("gloo", store=store, rank=process, world_size=MESH.devices, timeout=timedelta(seconds=60))
    order = torch.tensor(MESH.device_order).reshape(MESH.shape)
    try:
        queue.put((process, observe(DeviceMesh("cpu", order, mesh_dim_names=MESH.axes))))
    except Exception:
        queue.put((process, traceback.format_exc()))
        raise
    dist.barrier()
    dist.destroy_process_group()


def fleet() -> list[dict[str, Any]]:
    """Run everything on four ranks, from a fork server that has imported torch; the findings, process by process."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = context.Queue()
    processes = [context.Process(target=_rank, args=(n, port, queue)) for n in range(MESH.devices)]
    for process in processes:
        process.start()
    answers = dict(queue.get(timeout=200) for _ in processes)
    for process in processes:
        process.join(30)
    return [answers[n] for n in range(MESH.devices)]
