"""Devices that need not exist: a topology of a named chip, or emulated host devices where it cannot be compiled for.

Compiling for a CUDA chip takes the plugin wheels of exactly jaxlib's version (the extra `aot`) and a device table; it
takes no driver, no CUDA library and no chip. `topologies.get_topology_desc` is the public entry point.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.targets.chip import TABLES, Chip, ChipError

PLUGIN = "jax-cuda12-pjrt"
MOST_HOST_DEVICES = 2048  # of one process; more end the CPU client


def why_no_target(chip: Chip | None) -> str:
    """Why nothing can be compiled for a chip here, the end of a sentence; empty where it can."""
    if chip is None:
        return "no chip was named"
    if not chip.table:
        return f"there is no device table for {chip.name}"
    plugin, jaxlib = _installed(PLUGIN), _installed("jaxlib")
    if plugin is None:
        return f"{PLUGIN} is not installed (the extra 'aot' brings it)"
    return "" if plugin == jaxlib else f"{PLUGIN} {plugin} is not of jaxlib's version {jaxlib}"


@cache
def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def target_mesh(mesh: Mesh, chip: Chip) -> Any:
    """A `jax.sharding.Mesh` of the chip's devices: nodes of its size, the last axes within a node."""
    from jax.experimental import topologies
    from jax.sharding import Mesh as JaxMesh

    per_node = chip.devices_per_node
    nodes, within = (mesh.devices // per_node, per_node) if mesh.devices % per_node == 0 else (mesh.devices, 1)
    described = topologies.get_topology_desc(
        "",
        platform="cuda",
        topology=f"1 x {nodes} x {within}",
        target_config=(TABLES / chip.table).read_text(encoding="utf-8"),
    )
    return JaxMesh(np.array(described.devices).reshape(mesh.shape), mesh.axes)


def host_mesh(mesh: Mesh) -> Any:
    """The same of emulated host devices, as many as the process was started with. Raises ChipError for too many."""
    import jax
    from jax.sharding import Mesh as JaxMesh

    devices = jax.devices("cpu")
    if mesh.devices > len(devices):
        raise ChipError(
            f"Without a chip to compile for, a mesh has at most {len(devices)} devices, not {mesh.devices} as {mesh}."
        )
    return JaxMesh(np.array(devices[: mesh.devices]).reshape(mesh.shape), mesh.axes)
