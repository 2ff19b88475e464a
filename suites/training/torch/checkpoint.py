"""Checkpoints of a training step in torch, independent of the mesh.

Law: a state is saved as canonical tensors, without padding, repeats or device order, so that it loads on any mesh to
the same bits, and what it draws itself does not depend on the mesh either.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from suites.training.initial import bias_scale, fan_in
from suites.training.torch.archive import Kinds, read, write
from suites.training.torch.matrices import WholeMatrices
from suites.training.torch.norms import TensorNorms
from suites.training.torch.state import Named, State, dtype_of


class Checkpointed(WholeMatrices, TensorNorms):
    """Draws, saves and loads the state of a training step. No rank holds more than one whole tensor at a time."""

    def initialize(self, seed: int, mesh: DeviceMesh) -> State:
        """Every parameter is drawn whole, by a generator of its own, and then sharded."""
        return self.place({name: drawn(name, shape, seed) for name, shape in self.contract.shapes.items()}, mesh)

    def save(self, state: State, folder: Path) -> None:
        write(self.saved(state), folder)

    def load(self, folder: Path, mesh: DeviceMesh) -> State:
        """Raises ArchiveError, on all ranks, for what is damaged, unfinished, or of another training step."""
        self.require_supported()
        self.device_mesh = mesh
        own = dict.fromkeys(self.stored_names)  # in the order in which gradients are summed up
        state: State = {"parameters": {**own}, "optimizer": {slot: {**own} for slot in self.slot_names}, "count": 0}
        for key, whole in read(self.saved_kinds(), folder):
            match key.split("/"):
                case ["count"]:
                    state["count"] = int(whole)
                case ["parameters", name] if name in own:
                    state["parameters"][name] = self.stored(name, as_array(whole))
                case ["optimizer", slot, name] if name in own:
                    state["optimizer"][slot][name] = self.slot(name, as_array(whole))
        return state

    def saved(self, state: State) -> Iterator[tuple[str, Tensor]]:
        """All that the next step reads, as canonical tensors."""
        for name in self.contract.shapes:
            yield f"parameters/{name}", self.whole_parameter(name, state["parameters"])
        for slot, values in state["optimizer"].items():
            for name in self.contract.shapes:
                yield f"optimizer/{slot}/{name}", self.whole_slot(name, values)
        yield "count", torch.tensor([state["count"]])

    def whole_parameter(self, name: str, parameters: Named) -> Tensor:
        """A canonical parameter, from what the ranks store of it."""
        return self.gathered(parameters[name], self.placements(name), self.positions(name))

    def whole_slot(self, name: str, values: Named) -> Tensor:
        """The same of an optimizer slot."""
        return self.gathered(values[name], self.slot_placements(name), self.slot_positions(name))

    def saved_kinds(self) -> Kinds:
        """Shape and dtype of every tensor in a checkpoint."""
        kinds: Kinds = {"count": ((1,), torch.int64)}
        for name, shape in self.contract.shapes.items():
            kinds[f"parameters/{name}"] = shape, dtype_of(self.stored_dtype)
            kinds |= {f"optimizer/{slot}/{name}": (shape, self.master) for slot in self.slot_names}
        return kinds


def as_array(x: Tensor) -> np.ndarray:
    """numpy knows no bfloat16; float32 holds its values."""
    return (x.float() if x.dtype.itemsize < 4 else x).numpy()


BIAS_DEVIATION = 0.32  # that of the canonical biases


def drawn(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Canonical initial values: float64 numbers that float32 holds.

    Scales are uniform in [0.5, 1.5], biases normal, and smaller in a router. Weights are normal with deviation
    1 / sqrt(fan in).
    """
    # The generator takes the low 32 bits of a number for its seed, and no more.
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    if name.endswith(".scale"):
        return (0.5 + torch.rand(shape, generator=generator)).double().numpy()
    is_bias = name.endswith(".bias")
    deviation = BIAS_DEVIATION * bias_scale(name) if is_bias else 1 / math.sqrt(fan_in(name, shape))
    return (torch.randn(shape, generator=generator) * deviation).double().numpy()
