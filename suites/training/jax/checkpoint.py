"""Checkpoints and initial values of a training step in JAX, independent of the mesh.

Law: a state is saved as canonical arrays, without padding, repeats or device order, so that it loads on any mesh to
the same bits, and what it draws itself does not depend on the mesh either.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from suites.training.initial import bias_scale, fan_in
from suites.training.jax.archive import Kinds, read, write
from suites.training.jax.state import JaxTraining, Named
from suites.training.state_layout import canonical


class Checkpointed(JaxTraining):
    """Draws, saves and loads the state of a training step."""

    def initialize(self, seed: int, mesh: Any) -> dict:
        """Every parameter is drawn whole, from a key of its own, and then sharded."""
        return self.place({name: drawn(name, shape, seed) for name, shape in self.contract.shapes.items()}, mesh)

    def save(self, state: dict, folder: Path) -> None:
        write(dict(self.saved(state)), folder)

    def load(self, folder: Path, mesh: Any) -> dict:
        """Raises ArchiveError for what is damaged, unfinished, or of another training step."""
        self.settle(mesh)
        state: dict = {"parameters": {}, "optimizer": {slot: {} for slot in self.slot_names}}
        for key, whole in read(self.saved_kinds(), folder).items():
            match key.split("/"):
                case ["count"]:
                    state["count"] = whole
                case ["parameters", name]:
                    state["parameters"][name] = whole
                case ["optimizer", slot, name]:
                    state["optimizer"][slot][name] = whole
        return self.laid_out(state)

    def saved(self, state: dict) -> Iterator[tuple[str, np.ndarray]]:
        """All that the next step reads, as canonical arrays."""
        for name, p in self.wholes(state["parameters"]):
            yield f"parameters/{name}", canonical(p, self.positions(name))
        for slot, values in state["optimizer"].items():
            for name, value in self.wholes(values):
                yield f"optimizer/{slot}/{name}", canonical(value, self.slot_positions(name))
        yield "count", self.whole(state["count"])

    def saved_kinds(self) -> Kinds:
        """Shape and dtype of every array in a checkpoint."""
        kinds: Kinds = {"count": ((), "int32")}
        for name, shape in self.contract.shapes.items():
            kinds[f"parameters/{name}"] = tuple(shape), self.stored_dtype
            kinds |= {f"optimizer/{slot}/{name}": (tuple(shape), self.master) for slot in self.slot_names}
        return kinds

    def wholes(self, values: Named) -> Iterator[tuple[str, np.ndarray]]:
        """Parameters, or one slot of each of them, by name: whole, in the order in which they are stored."""
        for name, value in values.items():
            yield name, self.whole(value)

    def whole(self, x: jax.Array) -> np.ndarray:
        """All blocks of an array on every host, in the order in which they are stored."""
        return np.asarray(jax.device_put(x, NamedSharding(self.device_mesh, PartitionSpec())))


def drawn(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Canonical initial values: float64 numbers that float32 holds.

    Scales are uniform in [0.5, 1.5], biases in +-[0.1, 0.5], smaller in a router. Weights are normal with deviation
    1 / sqrt(fan in).
    """
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    if name.endswith(".scale"):
        values = jax.random.uniform(key, shape, "float32", 0.5, 1.5)
    elif name.endswith(".bias"):
        size, sign = jax.random.split(key)
        values = jax.random.uniform(size, shape, "float32", 0.1, 0.5) * jax.random.rademacher(sign, shape, "float32")
        values *= bias_scale(name)
    else:
        values = jax.random.normal(key, shape, "float32") / math.sqrt(fan_in(name, shape))
    return np.asarray(values, np.float64)
