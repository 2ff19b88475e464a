"""Collectives over one mesh axis in torch: each takes a tensor, leaves it untouched and returns the result.

Law: ranks along an axis are counted as the mesh counts them, and what is gathered or summed is so in that order. The
groups of a `DeviceMesh` count by process number, which is another order when the devices of the mesh are permuted: a
gather would come back permuted, and sums that must agree along other axes would differ in their last bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh


@cache
def groups_in_order(lines: tuple[tuple[int, ...], ...]) -> dict[int, Any]:
    """Process -> the group of its line of a mesh, members in the order of the line. All processes must ask for them."""
    groups = [dist.new_group(line, sort_ranks=False) for line in lines]
    return {process: group for line, group in zip(lines, groups, strict=True) for process in line}


@dataclass(frozen=True, kw_only=True)
class Arriving:
    """What is on its way to this rank, and what this rank sends meanwhile, which must not change until it has gone."""

    sent: Tensor
    arrived: Tensor
    works: list[Any]

    def wait(self) -> Tensor:
        """What has arrived."""
        for work in self.works:
            work.wait()
        return self.arrived


@dataclass(frozen=True, kw_only=True)
class MeshAxis:
    """One axis of the mesh as this rank sees it: its place there, 0 to size - 1, and those whom it talks to."""

    rank: int
    size: int
    group: Any = None

    @classmethod
    def of(cls, mesh: DeviceMesh, name: str) -> MeshAxis:
        """An axis of a DeviceMesh."""
        dim, coordinate = (mesh.mesh_dim_names or ()).index(name), mesh.get_coordinate()
        assert coordinate is not None, "a rank outside the mesh takes no part in its collectives"
        size = mesh.size(dim)
        lines = tuple(map(tuple, mesh.mesh.movedim(dim, -1).reshape(-1, size).tolist()))
        in_order = all(line == tuple(sorted(line)) for line in lines)
        group = mesh.get_group(name) if in_order else groups_in_order(lines)[dist.get_rank()]
        return cls(rank=coordinate[dim], size=size, group=group)

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
        return torch.cat(parts, dim=dim)

    def reduce_scatter(self, x: Tensor, dim: int) -> Tensor:
        """This rank's slice along dim of the sum of x over the axis. The size of x there must divide by the axis."""
        if self.size == 1:
            return x
        parts = [part.contiguous() for part in x.detach().chunk(self.size, dim)]
        mine = torch.empty_like(parts[0])
        dist.reduce_scatter(mine, parts, group=self.group)
        return mine

    def all_to_all(self, x: Tensor, split_dim: int, concat_dim: int) -> Tensor:
        """Cut x along one dim, send part i to rank i, and lay what arrives side by side along another dim."""
        if self.size == 1:
            return x
        parts = torch.stack(x.detach().chunk(self.size, split_dim)).contiguous()
        arrived = torch.empty_like(parts)
        dist.all_to_all_single(arrived, parts, group=self.group)
        return torch.cat(arrived.unbind(), dim=concat_dim)

    def exchange(self, x: Tensor, sends: list[int], receives: list[int]) -> Tensor:
        """Rows of x to the ranks of the axis in their order, so many to each; what arrives, by the ranks it is from."""
        arrived = x.new_empty(sum(receives), *x.shape[1:])
        dist.all_to_all_single(arrived, x.detach().contiguous(), receives, sends, group=self.group)
        return arrived

    def permute(self, x: Tensor, shift: int = 1) -> Tensor:
        """The x of the rank `shift` places before this one, around the ring; every rank sends and receives at once."""
        return x if shift % self.size == 0 else self.begin_permute(x, shift).wait()

    def begin_permute(self, x: Tensor, shift: int = 1) -> Arriving:
        """The same, under way while something else is done."""
        mine = x.detach().contiguous()
        arrived = torch.empty_like(mine)
        to, source = (self.rank + shift) % self.size, (self.rank - shift) % self.size
        send = dist.P2POp(dist.isend, mine, group=self.group, group_peer=to)
        receive = dist.P2POp(dist.irecv, arrived, group=self.group, group_peer=source)
        return Arriving(sent=mine, arrived=arrived, works=dist.batch_isend_irecv([send, receive]))

    def broadcast(self, x: Tensor, source: int) -> Tensor:
        """The x of one rank on all of them; the others give a tensor of its shape and dtype."""
        if self.size == 1:
            return x
        same = x.detach().clone(memory_format=torch.contiguous_format)
        dist.broadcast(same, group=self.group, group_src=source)
        return same

    def send(self, x: Tensor, to: int) -> None:
        """Send x to another rank of the axis, which must receive it; returns when it may have arrived."""
        dist.send(x.detach().contiguous(), group=self.group, group_dst=to)

    def receive(self, shape: tuple[int, ...], dtype: torch.dtype, source: int) -> Tensor:
        """What another rank of the axis sends, in the shape and dtype that both know."""
        arrived = torch.empty(shape, dtype=dtype)
        dist.recv(arrived, group=self.group, group_src=source)
        return arrived

    def own(self, x: Tensor, dim: int) -> Tensor:
        """This rank's slice of x along dim. The size of x there must divide by the axis."""
        width = x.shape[dim] // self.size
        return x.narrow(dim, self.rank * width, width)
