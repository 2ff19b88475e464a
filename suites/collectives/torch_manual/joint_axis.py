"""Several mesh axes as one: collectives over all of them at once, and messages between any two ranks there.

Law: ranks are counted as the mesh counts them, the last axis fastest, on whatever devices they sit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from suites.training.torch.collectives import MeshAxis, groups_in_order

Pairs = list[tuple[int, int]]  # (source, destination)


@dataclass(frozen=True, kw_only=True)
class JointAxis(MeshAxis):
    """One or several axes of a mesh as this rank sees them."""

    @classmethod
    def over(cls, mesh: DeviceMesh, names: tuple[str, ...]) -> JointAxis:
        """The axes must be in the order of the mesh. All processes must ask for them together."""
        if not names:
            return cls(rank=0, size=1)
        dims = [(mesh.mesh_dim_names or ()).index(name) for name in names]
        others = [dim for dim in range(mesh.mesh.dim()) if dim not in dims]
        size = int(torch.tensor([mesh.size(dim) for dim in dims]).prod())
        lines = tuple(map(tuple, mesh.mesh.permute(*others, *dims).reshape(-1, size).tolist()))
        [mine] = [line for line in lines if dist.get_rank() in line]
        return cls(rank=mine.index(dist.get_rank()), size=size, group=groups_in_order(lines)[dist.get_rank()])

    def exchange_pairs(self, x: Tensor, pairs: Pairs) -> Tensor:
        """What the source of this rank sends, zeros where it has none; all messages are on their way at once."""
        mine, arrived = x.detach().contiguous(), torch.zeros_like(x, memory_format=torch.contiguous_format)
        sources = [source for source, destination in pairs if destination == self.rank]
        if sources == [self.rank]:
            return mine.clone()
        sends = [(destination, mine) for source, destination in pairs if source == self.rank]
        self.deliver(sends, [(source, arrived) for source in sources])
        return arrived

    def deliver(self, sends: list[tuple[int, Tensor]], receives: list[tuple[int, Tensor]]) -> None:
        """Messages to and from ranks of the axis, all begun before any is waited for."""
        messages = [dist.P2POp(dist.isend, x, group=self.group, group_peer=to) for to, x in sends]
        messages += [dist.P2POp(dist.irecv, x, group=self.group, group_peer=source) for source, x in receives]
        for work in dist.batch_isend_irecv(messages) if messages else ():
            work.wait()

    def reduce(self, x: Tensor, destination: int) -> Tensor:
        """The sum over the axis on one rank, zeros on the others."""
        if self.size == 1:
            return x
        total: Any = x.detach().clone(memory_format=torch.contiguous_format)
        dist.reduce(total, group_dst=destination, group=self.group)
        return total if self.rank == destination else torch.zeros_like(total)
