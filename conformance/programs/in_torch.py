"""Random programs in torch: the reference on one device, the candidate with torch.distributed's collectives by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

import torch
import torch.distributed as dist

from conformance.mesh import Mesh
from conformance.programs.program import Program


def _wide(x: torch.Tensor) -> torch.Tensor:
    """Sums of narrow numbers are taken in float32, as everybody does."""
    return x if x.dtype == torch.float64 else x.float()


SUMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "pairwise": lambda t: t.sum(0),
    "sequential": lambda t: reduce(add, t.unbind(0)),
    "chunked": lambda t: torch.stack([chunk.sum(0) for chunk in t.chunk(7)]).sum(0),
    "reversed": lambda t: t.flip(0).sum(0),
}


def _terms(program: Program, p: Any, x: torch.Tensor, peak: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """What is summed over all devices, term by term."""
    if program.kind == "product":
        return _wide(x * p["v"][:, None])
    t = _wide(x @ p["w"])
    if program.kind == "mean":
        return torch.tanh(t) ** 2
    if program.kind == "softmax":
        return torch.stack([torch.exp(t - peak), t], 1)
    if program.kind == "scan":
        return torch.tanh((t.cumsum(0) + before) / program.terms**0.5)
    return t**2


def _head(program: Program, p: Any, total: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
    """The loss from the sum over all devices."""
    n = program.terms
    if program.kind in ("mean", "scan"):
        return total / n
    if program.kind == "norm":
        return total.sqrt()
    if program.kind == "softmax":
        return total[0].log() + peak - total[1] / n
    return ((total * _wide(p["w"])) ** 2).mean() if program.kind == "product" else total


def reference_of(program: Program) -> Callable[[Any, Any], Any]:
    def reference(parameters: Any, batch: Any) -> Any:
        peak = _wide(batch["x"] @ parameters["w"]).max().detach()
        total = _terms(program, parameters, batch["x"], peak, torch.zeros(())).sum(0)
        return _head(program, parameters, total, peak).to(batch["x"].dtype)

    return reference


def candidate_of(program: Program) -> Callable[[Any, Any, Any], dict[str, Any]]:
    axes = Mesh.parse(program.mesh).axes

    def summed(x: torch.Tensor, mesh: Any) -> torch.Tensor:
        x = x.detach().clone()
        for axis in axes:
            dist.all_reduce(x, group=mesh.get_group(axis))
        return x

    def candidate(parameters: Any, batch: Any, mesh: Any) -> dict[str, Any]:
        place, devices = _place(mesh, axes)
        rows = program.terms // devices
        mine = slice(place * rows, (place + 1) * rows)
        p = {
            name: (value[mine] if name == "v" else value).detach().requires_grad_()
            for name, value in parameters.items()
        }
        x = batch["x"][mine]
        t = _wide(x @ p["w"])
        peak = t.max().detach()
        for axis in axes:
            dist.all_reduce(peak, op=dist.ReduceOp.MAX, group=mesh.get_group(axis))
        totals = torch.zeros(devices, dtype=t.dtype)
        totals[place] = t.detach().sum()
        before = summed(totals, mesh)[:place].sum().requires_grad_()
        own = SUMS[program.order](_terms(program, p, x, peak, before))
        total = summed(own, mesh).requires_grad_()
        loss = _head(program, p, total, peak)
        known = torch.autograd.grad(loss, [total, p["w"]], allow_unused=True)
        asked = [*p.values(), before]
        slopes = dict(zip([*p, "before"], torch.autograd.grad(own, asked, known[0], allow_unused=True), strict=True))
        gradients = {"w": 0 if slopes["w"] is None else slopes["w"]}
        if program.kind == "scan":  # what every term before here is owed by the terms here
            owed = torch.zeros(devices, dtype=t.dtype)
            owed[place] = slopes["before"]
            after = summed(owed, mesh)[place + 1 :].sum()
            [more] = torch.autograd.grad(_wide(x @ p["w"]).sum(), [p["w"]])
            gradients["w"] = gradients["w"] + more * after.to(more.dtype)
        if program.kind == "product":
            gradients["w"] = known[1]
            everybody = torch.zeros_like(parameters["v"])
            everybody[mine] = slopes["v"]
            gradients["v"] = summed(everybody, mesh)
        else:
            gradients["w"] = summed(_wide(gradients["w"]), mesh).to(x.dtype)
        return {"loss": loss.detach().to(x.dtype)} | {f"gradients/{name}": value for name, value in gradients.items()}

    return candidate


def _place(mesh: Any, axes: tuple[str, ...]) -> tuple[int, int]:
    """This rank's place among all, in the order of the axes, and how many there are."""
    place, devices = 0, 1
    for axis in axes:
        size = dist.get_world_size(mesh.get_group(axis))
        place, devices = place * size + mesh.get_local_rank(axis), devices * size
    return place, devices
