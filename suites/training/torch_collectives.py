"""Collectives over one mesh axis in torch: each takes a tensor, leaves it untouched and returns the result.

Law: the axis order is that of the mesh. A process group orders its members by process number, which is another order
when the devices of the mesh are permuted, so what is gathered is put back into mesh order here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh


@dataclass(frozen=True, kw_only=True)
class MeshAxis:
    """One axis of the mesh as this rank sees it.

    rank    this rank's place along the axis, 0 to size - 1
    order   for each place along the axis, the number within the process group of the process that sits there
    """

    rank: int
    size: int
    group: Any = None
    order: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, mesh: DeviceMesh, name: str) -> MeshAxis:
        """An axis of a DeviceMesh; one that the mesh does not have has size 1."""
        names = mesh.mesh_dim_names or ()
        if name not in names:
            return cls(rank=0, size=1)
        group, dim = mesh.get_group(name), names.index(name)
        members = dist.get_process_group_ranks(group)
        coordinate = mesh.get_coordinate()
        assert coordinate is not None, "a rank outside the mesh takes no part in its collectives"
        line = mesh.mesh[tuple(slice(None) if d == dim else at for d, at in enumerate(coordinate))].tolist()
        return cls(rank=coordinate[dim], size=len(line), group=group, order=tuple(members.index(one) for one in line))

    def all_reduce(self, x: Tensor, op: Any = dist.ReduceOp.SUM) -> Tensor:
        """The sum (or maximum) of x over the axis, the same bits on every rank."""
        if self.size == 1:
            return x
        total = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, op=op, group=self.group)
        return total

    def all_gather(self, x: Tensor, dim: int) -> Tensor:
        """The x of all ranks laid side by side along dim, in axis order. All must have the same shape."""
        if self.size == 1:
            return x
        mine = x.detach().contiguous()
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(parts, mine, group=self.group)
        return torch.cat([parts[place] for place in self.order], dim=dim)

    def own(self, x: Tensor, dim: int) -> Tensor:
        """This rank's slice of x along dim. The size of x there must divide by the axis."""
        width = x.shape[dim] // self.size
        return x.narrow(dim, self.rank * width, width)
