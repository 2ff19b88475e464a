"""Other meshes over the same devices, for what must not depend on the mesh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from conformance.contract.mesh import ORDERS, Mesh
from conformance.contract.roles import ROLES


def other_layouts(mesh: Mesh, *, allows_smaller_mesh: bool = False) -> Iterator[Mesh]:
    """Sizes rotated among the axes, all devices on one axis, devices in other orders, then on an axis the mesh lacks.

    Each really is another layout: axes of size 1 do not count. With `allows_smaller_mesh`, first a single device.
    """
    known = {_layout(mesh)}
    for other in _candidates(mesh, allows_smaller_mesh and mesh.devices > 1):
        if _layout(other) not in known:
            known.add(_layout(other))
            yield other


def _layout(mesh: Mesh) -> tuple[object, ...]:
    return tuple(entry for entry in mesh.sizes if entry[1] > 1), mesh.device_order


def _candidates(mesh: Mesh, allows_smaller_mesh: bool) -> Iterator[Mesh]:
    if allows_smaller_mesh:
        yield Mesh(sizes=tuple((axis, 1) for axis in mesh.axes))
    for turns in range(1, len(mesh.sizes)):
        sizes = mesh.shape[turns:] + mesh.shape[:turns]
        yield replace(mesh, sizes=tuple(zip(mesh.axes, sizes, strict=True)))
    for axis in mesh.axes:
        yield _all_on(axis, mesh)
    for order in ORDERS:
        yield replace(mesh, order=order)
    for axis in ROLES if set(mesh.axes) <= set(ROLES) else ():  # a program with axes of its own knows no others
        yield _all_on(axis, mesh)


def _all_on(axis: str, mesh: Mesh) -> Mesh:
    axes = tuple(dict.fromkeys((*mesh.axes, axis)))
    return replace(mesh, sizes=tuple((name, mesh.devices if name == axis else 1) for name in axes))
