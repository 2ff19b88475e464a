"""`conformance.capture`: three lines around the steps of somebody's own trainer, in JAX or in torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from conformance.capture.off import Off
from conformance.capture.orders import Orders
from conformance.capture.request import Request
from conformance.cases.importing import standard_first


def capture(
    folder: str | PathLike[str] | None,
    *,
    model: Any,
    optimizer: Any = None,
    mesh: Any = None,
    steps: int = 3,
    names: Mapping[str, str | Sequence[str]] | None = None,
    placements: Mapping[str, Mapping[str, str]] | None = None,
    modules: Sequence[str] | None = None,
    replicated_axes: Sequence[str] = (),
    still: Sequence[str] = (),
) -> Any:
    """A context around training steps: while it is open, each process writes down what it computes.

    folder      where; None, or SHARDPROOF_CAPTURE=off in the environment: nothing is done at all (but under a recorder)
    model       an `nn.Module`, or several (pipeline stages); in JAX a tree of parameters, or an `nnx.Module`
    optimizer   a torch optimizer, or several; in JAX the tree of its state
    mesh        a DeviceMesh, a jax.sharding.Mesh, or the axes in the order of the ranks: 'data=2,tensor=4'; None on one
                device
    steps       how many are captured; then it lets go of the trainer
    names       pattern -> name, or names of a fused tensor, as the recorded single-device run calls it
                (`conformance.capture.names`)
    placements  pattern of parameters (`modules/<pattern>` for outputs) -> placements, {'tensor': 'S(0)'}: where neither
                a DTensor, nor a sharding, nor Megatron's attributes say them
    modules     patterns of modules whose outputs are captured; None: the model's own children and their items (torch)
    replicated_axes, still   as in `conformance.check`

    In torch nothing more is needed but `seen.loss(loss)` once per step, with a loss on which all ranks agree. In JAX:
    `params = seen.model`, `batch = seen.batch(batch)`, and after each step `seen.step(loss=..., gradients=...,
    model=..., optimizer=..., outputs=..., metrics=...)`. Raises ValueError, in one sentence, for what cannot be
    captured.
    """
    orders = Orders.given()
    where = orders.folder or folder
    if where is None or orders.off:
        return Off(model=model, optimizer=optimizer)
    with standard_first():
        request = Request.read(
            Path(where),
            steps,
            orders,
            names=names,
            placements=placements,
            modules=modules,
            replicated_axes=tuple(replicated_axes),
            still=tuple(still),
        )
        if _is_torch(model):
            from conformance.capture.torch_capture import TorchCapture

            return TorchCapture(request, model=model, optimizer=optimizer, mesh=mesh)
        from conformance.capture.jax_capture import JaxCapture

        return JaxCapture(request, model=model, optimizer=optimizer, mesh=mesh)


def _is_torch(model: Any) -> bool:
    """Whether it is, or begins with, a module of torch; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    first = model[0] if isinstance(model, (list, tuple)) and model else model
    return torch is not None and isinstance(first, torch.nn.Module)
