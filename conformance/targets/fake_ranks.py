"""One rank of a mesh whose other ranks do not exist: under torch's fake process group a collective sends nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

from conformance.contract.mesh import Mesh


@cache
def fake_mesh(mesh: Mesh, rank: int) -> Any:
    """A `DeviceMesh` of the whole mesh as this rank sees it.

    A process has one mesh and one rank: DTensor remembers process groups by meshes that are equal. Raises RuntimeError
    where it has another one already.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import DeviceMesh

    from conformance.trace.torch_private import fake_store

    if dist.is_initialized():
        raise RuntimeError("This process is a rank of another mesh already.")
    dist.init_process_group("fake", rank=mesh.device_order[rank], world_size=mesh.devices, store=fake_store())
    return DeviceMesh("cpu", torch.tensor(mesh.device_order).reshape(mesh.shape), mesh_dim_names=mesh.axes)
