"""The same program at production size: it observes the loss alone, and its tensors have shapes and no values."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from conformance.contract.placements import sharded_dim
from suites.data.torch_fsdp2.optimizers import STATE
from suites.hybrid.torch_fsdp2 import training
from suites.training.torch.state import Named, State

OBSERVED = ("loss", "metrics/grad_norm")


class Unobserved(dict[str, Tensor]):
    """Where observations are put that nobody keeps, so that they live no longer than the program needs them."""

    def __setitem__(self, name: str, value: Tensor) -> None:
        pass

    def __ior__(self, values: Any) -> Unobserved:  # type: ignore[override, misc]
        return self

    def update(self, *values: Any, **named: Any) -> None:
        pass


class LanguageModel(training.LanguageModel):
    """The step of `training.LanguageModel` with fewer observations, and without copies of the state."""

    def imagined(self, mesh: DeviceMesh, memory: AbstractContextManager[Any]) -> tuple[Any, State, Named]:
        """The step, the state that it updates in place, and this rank's part of a batch; all made within `memory`."""
        self.settle(mesh, memory)
        with memory, torch.no_grad():
            for p in self.parameters.values():
                slots = {STATE[slot]: torch.zeros_like(p) for slot in self.zero_slots}
                self.optimizer.state[p] = slots | {"step": torch.tensor(0.0)}
            batch = {key: self.imagined_part(key, shape) for key, shape in self.batch_shapes.items()}
        return self.step, self.copies(0), batch

    def imagined_part(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """This rank's part of a key of the batch."""
        sizes = list(shape)
        for axis, placement in self.batch_placements(key).items():
            if (dim := sharded_dim(placement)) is not None:
                sizes[dim] //= self.mesh.size(axis)
        return torch.zeros(sizes, dtype=self.batch_dtype(key, self.contract.example[key]))

    def new_observations(self) -> Named:
        return Unobserved()

    def local_batch(self, batch: Mapping[str, Any]) -> Named:
        """It is this rank's part already."""
        return dict(batch)

    def restore(self, state: State) -> None:
        """Modules and optimizer hold the state."""

    def copies(self, count: int) -> State:
        """The state itself."""
        kept = self.optimizer.state
        slots = {slot: {n: kept[p][STATE[slot]] for n, p in self.parameters.items()} for slot in self.zero_slots}
        return {"parameters": self.parameters, "optimizer": slots, "count": count}

    def step(self, state: State, batch: Any) -> tuple[State, Mapping[str, Any]]:
        state, observed = super().step(state, batch)
        return state, {name: observed[name] for name in OBSERVED}

    def as_gradient(self, name: str, value: Tensor) -> Any:
        """Nobody reads it."""
        return value
