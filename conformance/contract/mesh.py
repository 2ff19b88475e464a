"""A mesh: named axes and their sizes, laid over devices in a stated order."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from conformance.contract.errors import ShardproofError

AXIS = r"[A-Za-z](?:\w*?[A-Za-z_])??"  # with its size behind it a name must be read back: `data2_tensor4`
MOST_DEVICES = {"jax": 64, "torch": 16}  # emulated: host devices of one process, rank processes on one machine
ORDERS = ("canonical", "reversed", "shuffled")


class MeshError(ShardproofError, ValueError):
    """A mesh that cannot be: the message is one sentence for the person who wrote it."""


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Axes and sizes, outermost first: `data=2,tensor=4`, optionally `@reversed` or `@shuffled`.

    A *rank* is a position in the mesh, counted row by row (the last axis runs fastest). `device_order[rank]` is the
    device that sits there; every law must hold whichever device that is, so a permuted order is a standing test.
    """

    sizes: tuple[tuple[str, int], ...]
    order: str = "canonical"

    def __post_init__(self) -> None:
        names = [axis for axis, _ in self.sizes]
        if not names:
            raise MeshError("A mesh needs at least one axis, for example 'tensor=4'.")
        for axis, size in self.sizes:
            if not _is_name(axis):
                raise MeshError(
                    f"'{axis}' cannot name a mesh axis: a name begins with a letter, goes on with letters, digits and "
                    "underscores, does not end in a digit and has no digit before an underscore."
                )
            if size < 1:
                raise MeshError(f"Mesh axis '{axis}' has size {size}: a size is a whole number of at least 1.")
        if len(set(names)) != len(names):
            raise MeshError(f"The mesh names an axis twice: {', '.join(names)}.")
        if self.order not in ORDERS:
            raise MeshError(f"Unknown device order '{self.order}': the orders are {', '.join(ORDERS)}.")

    @classmethod
    def parse(cls, text: str) -> Mesh:
        """Read `data=2,tensor=4` or `data=2,tensor=4@reversed`; raise MeshError with one clear sentence."""
        spec, _, order = text.strip().partition("@")
        if not spec:
            raise MeshError(f"The mesh '{text}' has no axis: write axis=size, as in 'data=2,tensor=4'.")
        sizes = []
        for part in spec.split(","):
            axis, equals, size = part.partition("=")
            if not equals or not size.strip().isdecimal():
                raise MeshError(
                    f"Cannot read '{part.strip()}' in mesh '{text}': write axis=size, as in 'data=2,tensor=4'."
                )
            sizes.append((axis.strip(), int(size)))
        return cls(sizes=tuple(sizes), order=order or "canonical")

    @classmethod
    def from_slug(cls, slug: str) -> Mesh:
        """The mesh in a case id; the inverse of `slug`."""
        sizes = "_".join(slug.split("_")[:-1]) if (last := slug.rpartition("_")[2]) in ORDERS else slug
        parts = re.findall(rf"({AXIS})(\d+)(?:_|$)", sizes)
        return cls(sizes=tuple((axis, int(size)) for axis, size in parts), order="canonical" if sizes == slug else last)

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(axis for axis, _ in self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(size for _, size in self.sizes)

    @property
    def devices(self) -> int:
        """Number of devices: the product of all sizes."""
        return math.prod(self.shape)

    def size(self, axis: str) -> int:
        """Size of an axis; 1 for an axis that the mesh does not have."""
        return self._size_of.get(axis, 1)

    @cached_property
    def _size_of(self) -> dict[str, int]:
        return dict(self.sizes)

    @cached_property
    def device_order(self) -> tuple[int, ...]:
        """The device at each rank."""
        devices = list(range(self.devices))
        if self.order == "reversed":
            devices.reverse()
        elif self.order == "shuffled":
            devices = np.random.default_rng(7).permutation(self.devices).tolist()
        return tuple(devices)

    def coordinates(self, rank: int) -> dict[str, int]:
        """Where a rank sits: axis -> index."""
        return dict(self._coordinates[rank])

    @cached_property
    def _coordinates(self) -> tuple[dict[str, int], ...]:
        return tuple(dict(zip(self.axes, where, strict=True)) for where in np.ndindex(self.shape))

    def groups(self, axis: str) -> list[list[int]]:
        """The ranks that differ only along one axis, group by group, each in axis order."""
        if axis not in self.axes:
            return [[rank] for rank in range(self.devices)]
        ranks = np.arange(self.devices).reshape(self.shape)
        return np.moveaxis(ranks, self.axes.index(axis), -1).reshape(-1, self.size(axis)).tolist()

    @property
    def slug(self) -> str:
        """The mesh in a case id: `data2_tensor4`, `tensor4_reversed`."""
        suffix = "" if self.order == "canonical" else f"_{self.order}"
        return "_".join(f"{axis}{size}" for axis, size in self.sizes) + suffix

    def __str__(self) -> str:
        suffix = "" if self.order == "canonical" else f"@{self.order}"
        return ",".join(f"{axis}={size}" for axis, size in self.sizes) + suffix


def too_large(mesh: Mesh, framework: str) -> str:
    """One sentence if a mesh has more devices than can be emulated, else nothing."""
    if mesh.devices <= MOST_DEVICES[framework]:
        return ""
    return (
        f"The mesh {mesh} needs {mesh.devices} devices: {framework} is emulated with at most "
        f"{MOST_DEVICES[framework]} on one machine."
    )


def _is_name(axis: str) -> bool:
    return axis.isascii() and re.fullmatch(AXIS, axis) is not None and re.search(r"\d_", axis) is None
