"""Devices that need not exist: a topology of a named chip, or emulated host devices where it cannot be compiled for.

Compiling for a CUDA chip takes the plugin wheels of exactly jaxlib's version (the extra `aot`) and a device table; it
takes no driver, no CUDA library and no chip. Compiling for a TPU takes the libtpu that jax asks for (the extra `tpu`).
`topologies.get_topology_desc` is the public entry point of both.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.targets.chip import TABLES, Chip, ChipError

PLUGIN = "jax-cuda12-pjrt"
MOST_HOST_DEVICES = 2048  # of one process; more end the CPU client
SLICES = {
    "v5e": {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"},
}  # chips -> shape that can be had (Google Cloud, TPU v5e, configurations)


def why_no_target(chip: Chip | None, devices: int = 1) -> str:
    """Why nothing can be compiled for so many of a chip here, the end of a sentence; empty where it can."""
    if chip is None:
        return "no chip was named"
    if chip.topology:
        return _why_no_tpu(chip, devices)
    if not chip.table:
        return f"there is no device table for {chip.name}"
    plugin, jaxlib = _installed(PLUGIN), _installed("jaxlib")
    if plugin is None:
        return f"{PLUGIN} is not installed (the extra 'aot' brings it)"
    return "" if plugin == jaxlib else f"{PLUGIN} {plugin} is not of jaxlib's version {jaxlib}"


def _why_no_tpu(chip: Chip, devices: int) -> str:
    slices = SLICES.get(chip.topology)
    if slices is None:
        return f"no slices are known of the TPU '{chip.topology}', but of {', '.join(SLICES)}"
    if devices not in slices:
        return f"a slice of {chip.topology} has {', '.join(map(str, slices))} chips, not {devices}"
    libtpu = _installed("libtpu")
    if libtpu is None:
        return "libtpu is not installed (the extra 'tpu' brings it)"
    wanted = _wanted_libtpu()
    return "" if f"{libtpu}.".startswith(wanted) else f"libtpu {libtpu} is not the one that jax asks for, {wanted}*"


@cache
def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _wanted_libtpu() -> str:
    """The beginning of the versions that the installed jax works with: `0.0.42.`."""
    wanted = (re.match(r"libtpu\s*==\s*([\d.]+)\*?", line) for line in _jax_requires())
    return next((f"{found[1].rstrip('.')}." for found in wanted if found), "")


def _jax_requires() -> list[str]:
    return [] if _installed("jax") is None else requires("jax") or []


def target_mesh(mesh: Mesh, chip: Chip) -> Any:
    """A `jax.sharding.Mesh` of the chip's devices: nodes of its size, or a slice; the last axes within a node."""
    from jax.sharding import Mesh as JaxMesh

    described = _slice(mesh.devices, chip.topology) if chip.topology else _nodes(mesh.devices, chip)
    return JaxMesh(np.array(described.devices).reshape(mesh.shape), mesh.axes)


def _slice(devices: int, topology: str) -> Any:
    from jax.experimental import topologies

    bounds = {"chips_per_host_bounds": (1, 1, 1)} if devices == 1 else {}
    return topologies.get_topology_desc(f"{topology}:{SLICES[topology][devices]}", platform="tpu", **bounds)


def _nodes(devices: int, chip: Chip) -> Any:
    from jax.experimental import topologies

    per_node = chip.devices_per_node
    nodes, within = (devices // per_node, per_node) if devices % per_node == 0 else (devices, 1)
    return topologies.get_topology_desc(
        "",
        platform="cuda",
        topology=f"1 x {nodes} x {within}",
        target_config=(TABLES / chip.table).read_text(encoding="utf-8"),
    )


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
