"""Process groups and mesh axes: which axes a group runs over, and which group runs over given axes."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from conformance.contract.mesh import Mesh


class Groups:
    """The groups of one device mesh, whoever made them: per axis, flattened over several, or the whole world.

    Without a device mesh there are none: one process runs alone.
    """

    def __init__(self, mesh: Mesh, device_mesh: Any) -> None:
        self._mesh, self._device_mesh = mesh, device_mesh
        processes = [] if device_mesh is None else device_mesh.mesh.flatten().tolist()
        self._where = {int(process): rank for rank, process in enumerate(processes)}
        self._axes: dict[str, tuple[str, ...]] = {}

    def axes(self, group: Any) -> tuple[str, ...]:
        """The axes along which the members of a group differ, in mesh order; () for a group of one."""
        if group.group_name not in self._axes:
            members = [self._where[p] for p in dist.get_process_group_ranks(group) if p in self._where]
            places = [self._mesh.coordinates(rank) for rank in members]
            differ = (axis for axis in self._mesh.axes if len({place[axis] for place in places}) > 1)
            self._axes[group.group_name] = tuple(differ)
        return self._axes[group.group_name]

    def rank(self, process: int) -> int:
        """The mesh position of a process."""
        return self._where[process]

    def over(self, axes: tuple[str, ...]) -> Any:
        """The group of this process over one or several axes; every process must ask for it at the same point."""
        if len(axes) == 1:
            return self._device_mesh.get_group(axes[0])
        return self._device_mesh[axes]._flatten().get_group()
