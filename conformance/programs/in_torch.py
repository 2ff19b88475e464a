"""Random programs in torch: the reference on one device, the candidate with torch.distributed's collectives by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import torch
import torch.distributed as dist

from conformance.contract.mesh import Mesh
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


@dataclass(frozen=True, kw_only=True)
class _Ranks:
    """This rank among all of the mesh, in the order of its axes, and what they do together."""

    groups: tuple[Any, ...]
    place: int
    devices: int

    @classmethod
    def of(cls, mesh: Any, axes: tuple[str, ...]) -> _Ranks:
        place, devices = 0, 1
        for axis in axes:
            size = dist.get_world_size(mesh.get_group(axis))
            place, devices = place * size + mesh.get_local_rank(axis), devices * size
        return cls(groups=tuple(mesh.get_group(axis) for axis in axes), place=place, devices=devices)

    def summed(self, x: torch.Tensor) -> torch.Tensor:
        return self._reduced(x, dist.ReduceOp.SUM)

    def largest(self, x: torch.Tensor) -> torch.Tensor:
        return self._reduced(x, dist.ReduceOp.MAX)

    def gathered(self, x: torch.Tensor) -> torch.Tensor:
        """A number of every rank."""
        everybody = torch.zeros(self.devices, dtype=x.dtype)
        everybody[self.place] = x.detach()
        return self.summed(everybody)

    def _reduced(self, x: torch.Tensor, how: Any) -> torch.Tensor:
        x = x.detach().clone()
        for group in self.groups:
            dist.all_reduce(x, op=how, group=group)
        return x

    def mine(self, terms: int) -> slice:
        rows = terms // self.devices
        return slice(self.place * rows, (self.place + 1) * rows)


def candidate_of(program: Program) -> Callable[[Any, Any, Any], dict[str, Any]]:
    axes = Mesh.parse(program.mesh).axes

    def candidate(parameters: Any, batch: Any, mesh: Any) -> dict[str, Any]:
        ranks = _Ranks.of(mesh, axes)
        mine = ranks.mine(program.terms)
        held = {name: value[mine] if name == "v" else value for name, value in parameters.items()}
        p = {name: value.detach().requires_grad_() for name, value in held.items()}
        x = batch["x"][mine]
        t = _wide(x @ p["w"]).detach()
        peak = ranks.largest(t.max())
        before = ranks.gathered(t.sum())[: ranks.place].sum().requires_grad_()
        own = SUMS[program.order](_terms(program, p, x, peak, before))
        total = ranks.summed(own).requires_grad_()
        loss = _head(program, p, total, peak)
        of_total, of_w = torch.autograd.grad(loss, [total, p["w"]], allow_unused=True)
        slopes = torch.autograd.grad(own, [*p.values(), before], of_total, allow_unused=True)
        named = dict(zip([*p, "before"], slopes, strict=True))
        gradients = _product_gradients(of_w, named, parameters["v"], ranks, mine) if "v" in p else {
            "w": _gradient(named, p["w"], x, ranks)
        }  # fmt: skip
        return {"loss": loss.detach().to(x.dtype)} | {f"gradients/{name}": value for name, value in gradients.items()}

    return candidate


def _gradient(slopes: dict[str, Any], w: torch.Tensor, x: torch.Tensor, ranks: _Ranks) -> torch.Tensor:
    """The gradient of w, on which the terms of every rank depend; in a scan those of later ranks owe to terms here."""
    own = slopes["w"]
    if slopes["before"] is not None:
        after = ranks.gathered(slopes["before"])[ranks.place + 1 :].sum()
        [more] = torch.autograd.grad(_wide(x @ w).sum(), [w])
        own = own + more * after.to(more.dtype)
    return ranks.summed(_wide(own)).to(x.dtype)


def _product_gradients(
    of_w: torch.Tensor, slopes: dict[str, Any], v: torch.Tensor, ranks: _Ranks, mine: slice
) -> dict[str, torch.Tensor]:
    """w meets the sum, which every rank has whole; of v every rank has its own part."""
    everybody = torch.zeros_like(v)
    everybody[mine] = slopes["v"]
    return {"w": of_w, "v": ranks.summed(everybody)}
