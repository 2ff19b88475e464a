"""Torch programs for the tests of the workers: one that is right, and one for every way to break a worker."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, Replicate, Shard

from conformance.contract.alteration import Alteration
from conformance.contract.implementation import Implementation, Reordered, Sharded, Unsupported


def _gradient(w: Any, x: Any, mask: Any) -> tuple[Any, Any]:
    w = w.detach().requires_grad_()
    loss = 0.5 * (mask[:, None] * (x @ w) ** 2).sum()
    return loss.detach(), torch.autograd.grad(loss, w)[0]


class Reference:
    def __init__(self, contract: Any, dtype: str) -> None:
        self.dtype = getattr(torch, dtype)

    def place(self, parameters: dict) -> Any:
        return torch.tensor(parameters["w"], dtype=self.dtype)

    def step(self, w: Any, batch: dict) -> Any:
        x, mask = (torch.tensor(batch[key], dtype=self.dtype) for key in ("x", "mask"))
        loss, gradient = _gradient(w, x, mask)
        return w - gradient, {"loss": loss, "gradients/w": gradient}

    def collect(self, w: Any) -> Any:
        return {"parameters/w": w}


class Right(Implementation):
    """Rows over the tensor axis; w replicated, updated in place."""

    framework = "torch"

    def place(self, parameters: dict, mesh: Any) -> Any:
        self.device_mesh = mesh
        self.rank, self.size = mesh.get_coordinate()[0], mesh.size()
        return torch.tensor(parameters["w"], dtype=getattr(torch, self.dtype))

    def step(self, w: Any, batch: dict) -> Any:
        x, mask = (torch.tensor(batch[key], dtype=w.dtype).chunk(self.size)[self.rank] for key in ("x", "mask"))
        loss, gradient = (self.total(value) for value in _gradient(w, x, mask))
        w -= gradient
        return w, {"loss": loss, "gradients/w": gradient}

    def total(self, x: Any) -> Any:
        dist.all_reduce(x, group=self.device_mesh.get_group("tensor"))
        return x

    def collect(self, w: Any) -> Any:
        return {"parameters/w": w}


class Doubled:
    """A fault: the sum is counted twice."""

    def total(self, x: Any) -> Any:
        return 2 * super().total(x)  # type: ignore[misc]


class Alters(Right):
    """Can count the sum as often as it is told to."""

    times = 1

    def alterations(self) -> tuple[Alteration, ...]:
        return (Alteration(operator="count_again", site=2, what="counted twice", axis="tensor"),)

    def alter(self, operator: str, site: int) -> None:
        self.times = {"count_again": site}[operator]

    def total(self, x: Any) -> Any:
        return self.times * super().total(x)


class Remembers(Right):
    """Wrong by as many times as its process has seen dtypes."""

    seen: set[str] = set()  # noqa: RUF012 - the state that must not be there

    def place(self, parameters: dict, mesh: Any) -> Any:
        self.seen.add(self.dtype)
        return super().place(parameters, mesh)

    def total(self, x: Any) -> Any:
        return len(self.seen) * super().total(x)


class Deadlocks(Right):
    """Rank 0 leaves out a sum in which the others wait for it."""

    def total(self, x: Any) -> Any:
        return x if self.rank == 0 else super().total(x)


class Aborts(Right):
    def step(self, w: Any, batch: dict) -> Any:
        if self.rank == 1:
            print("about to abort", flush=True)
            os.abort()
        return super().step(w, batch)


class AbortsLater(Doubled, Right):
    """Its first step is wrong, and in the second a rank aborts."""

    def step(self, w: Any, batch: dict) -> Any:
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 2 and self.rank == 1:
            os.abort()
        return super().step(w, batch)


class RaisesLater(Right):
    """Its first step is right, and the second raises on one rank."""

    def step(self, w: Any, batch: dict) -> Any:
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 2 and self.rank == 1:
            raise ValueError("the second step has a bug")
        return super().step(w, batch)


class SquaresTheInput(Right):
    """A bug of its own, on any mesh."""

    def step(self, w: Any, batch: dict) -> Any:
        squared = torch.tensor(batch["x"]) * torch.tensor(batch["x"])
        return super().step(w, batch | {"x": squared.numpy()})


class Exchanges(Right):
    """The two ranks send each other what they add up, and wait for it after that."""

    def total(self, x: Any) -> Any:
        other = torch.empty_like(x)
        sent = dist.isend(x, 1 - self.rank)
        dist.recv(other, 1 - self.rank)
        sent.wait()
        return x + other


class Scattered(Right):
    """Every rank gets its part of a sum, which is handed over in parts of one memory, and all are laid side by side."""

    dim = 0

    def total(self, x: Any) -> Any:
        if x.dim() < 2:
            return super().total(x)
        parts = [part.contiguous() for part in torch.cat([x, x], self.dim).chunk(2, self.dim)]
        own = torch.empty_like(parts[0])
        dist.reduce_scatter(own, parts, group=self.device_mesh.get_group("tensor"))
        return own.permute(1, 0).contiguous().permute(1, 0)


class ScatteredColumns(Scattered):
    """The same of parts that have a memory each."""

    dim = 1


class Exits(Right):
    def step(self, w: Any, batch: dict) -> Any:
        if self.rank == 1:
            os._exit(3)
        return super().step(w, batch)


class LeavesProcesses(Right):
    """One of its own, and one in a session of its own, as daemons do; where they are is written into a file."""

    def step(self, w: Any, batch: dict) -> Any:
        kept = [subprocess.Popen(["sleep", "600"], start_new_session=apart) for apart in (False, True)]
        with open(os.environ["LEFT_PROCESSES"], "a") as file:
            file.write("".join(f"{process.pid}\n" for process in kept))
        return super().step(w, batch)


class Raises(Right):
    """On one rank only: the others wait for it in a sum."""

    def step(self, w: Any, batch: dict) -> Any:
        if self.rank == 1:
            print("about to raise", flush=True)
            raise ValueError("the step has a bug")
        return super().step(w, batch)


class EatsMemory(Right):
    def step(self, w: Any, batch: dict) -> Any:
        eaten = []
        while self.rank == 1:
            eaten.append(np.ones(2**23))  # 64 MiB, touched
            time.sleep(0.01)
        return super().step(w, batch)


class Refuses(Right):
    def place(self, parameters: dict, mesh: Any) -> Any:
        raise Unsupported("Seven heads cannot be divided over two devices.")


class WrongBlock(Right):
    """Says that it holds half of the rows, and holds all of them."""

    def step(self, w: Any, batch: dict) -> Any:
        return w, {"outputs/y": Sharded(local=torch.ones(8, 2), placements={"tensor": "S(0)"}, shape=(8, 2))}


class OnlyState(Right):
    """A step that forgets its observations."""

    def step(self, w: Any, batch: dict) -> Any:
        return w


class Shapes(Right):
    """Values of every kind, for the tests of observation."""

    def step(self, w: Any, batch: dict) -> Any:
        padded, repeated = np.array([0, 1, 2, 3, 4, 5, -1, -1]), np.array([0, 0, 1, 1, 2, 2, 3, 3])

        def part(whole: Any) -> Sharded:
            whole = torch.as_tensor(whole)
            held = whole.chunk(self.size)[self.rank] if self.rank < len(whole.chunk(self.size)) else whole[:0]
            return Sharded(local=held, placements={"tensor": "S(0)"}, shape=tuple(whole.shape))

        uneven = DTensor.from_local(
            part(torch.arange(5.0)).local, self.device_mesh, [Shard(0)], shape=torch.Size([5]), stride=(1,)
        )
        return w, {
            "number": 2.5,
            "array": np.array([-0.0, np.nan]),
            "signs": torch.tensor([-0.0, 0.0, float("nan")]),
            "rows": part(np.arange(16.0).reshape(8, 2)),
            "narrow": part(torch.arange(8, dtype=torch.bfloat16) / 3),
            "padded": Reordered(value=part(np.where(padded < 0, 9.0, padded)), shape=(6,), index_map={0: padded}),
            "repeated": Reordered(value=part(repeated * 1.0), shape=(4,), index_map={0: repeated}),
            "uneven": uneven,
            "partial": Sharded(local=torch.tensor([1.0 + self.rank]), placements={"tensor": "P"}, shape=(1,)),
            "copies": torch.tensor([0.0 if self.rank < 2 else -0.0]),
            "replicated": DTensor.from_local(torch.ones(2), self.device_mesh, [Replicate()]),
        }


class Plain(Right):
    """Nothing but plain numbers: no device is seen to hold anything."""

    def step(self, w: Any, batch: dict) -> Any:
        return w, {"loss": 1.0}

    def collect(self, w: Any) -> Any:
        return {"parameters/w": w.numpy().copy()}
