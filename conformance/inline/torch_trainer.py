"""Somebody's trainer in torch: a class that is made with the parameters and a mesh, and takes steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from conformance.cases.functions import Functions
from conformance.contract.contract import Arrays, Contract
from conformance.contract.implementation import Declarations, Implementation, Sharded
from conformance.contract.mesh import Mesh
from conformance.contract.placements import Placements, read_placements
from conformance.inline.calling import attribute, constructed, declared
from conformance.inline.observed import named
from conformance.inline.torch_gradients import watched
from conformance.inline.torch_model import Model, buffers_of, cast, parameters_of, slots_of
from conformance.inline.torch_partitioned import is_partitioned, local, owned, refuse_flattened
from conformance.trace.torch_sparse import dense
from conformance.workers.observe import Unreadable
from conformance.workers.torch_layout import megatron

COPIES = (
    "The trainer's average is torch's AveragedModel, whose first update copies the parameters, where a decay means one "
    "that begins as they do: give `ema=` a function at the top level of a module that makes it of the model."
)


class _Trainers:
    """Makes trainers of one class, has them step, and reads what they have learnt."""

    def __init__(self, contract: Contract, path: str, dtype: str, mesh: Mesh | None, layout: Any = None) -> None:
        self.functions: Functions = contract.model
        self.path, self.mesh, self.layout = path, mesh, layout or {}
        self.compute = getattr(torch, dtype)
        self.dtype = getattr(torch, contract.recipe.precision.dtype("parameters", dtype))
        self.shapes, self.model = contract.shapes, Model(self.functions)

    def made(self, parameters: Arrays, mesh: Any) -> Any:
        self.device_mesh = mesh
        return constructed(self.path, self.model.built(parameters, self.dtype), mesh, self.compute)

    def step(self, trainer: Any, batch: Arrays) -> dict[str, Any]:
        """What the step returned, and of gradients and buffers what it did not."""
        own, unaveraged = callable(getattr(trainer, "collect", None)), _averages(trainer) == 0
        with watched(lambda: self._parameters(trainer)) as noted:
            returned = trainer.step(cast(batch, self.compute))
        if unaveraged and _averages(trainer) == 1 and isinstance(self.functions.training.ema, float):
            raise Unreadable(COPIES)
        seen = {name: dense(value) for name, value in named(returned, parameters_of).items()}
        if own and not hasattr(trainer, "model"):
            return seen
        held = self._parameters(trainer)
        refuse_flattened(held, seen)
        gradients = noted.gradients()
        self._require_gradients(seen, noted.stepped or bool(gradients))
        self._require_unclipped(seen, noted.clipped)
        left = {f"gradients/{name}": self._placed(name, g, held[name]) for name, g in gradients.items()}
        left |= {f"buffers/{name}": value.clone() for name, value in _buffers(trainer).items()}
        return left | seen

    def _require_gradients(self, seen: Mapping[str, Any], watched: bool) -> None:
        """Where no optimizer of torch moves the parameters, nothing says when their gradients are there."""
        if self.functions.training.optimizer is None or watched or _has_gradients(seen):
            return
        raise Unreadable(
            "No parameter has a gradient when the step is over, and no optimizer of torch has stepped in it: where a "
            "trainer moves parameters by its own arithmetic, its step returns 'gradients' too, copied before."
        )

    def _require_unclipped(self, seen: Mapping[str, Any], clipped: bool) -> None:
        """Gradients that arithmetic of the trainer's own has clipped in place are not those to be compared."""
        if self.functions.training.clip_norm is None or clipped or _has_gradients(seen):
            return
        raise Unreadable(
            "clip_norm is given, and none of torch's functions clipped gradients in the step: where a trainer clips by "
            "its own arithmetic, its step returns 'gradients' too, copied before."
        )

    def collect(self, trainer: Any) -> dict[str, Any]:
        """Its own word where it has one: parameters, slots of optimizers and averages, as they are sharded."""
        if callable(getattr(trainer, "collect", None)):
            return named(trainer.collect(), parameters_of)
        held = self._parameters(attribute(trainer, "model") and trainer)
        collected = {f"parameters/{name}": self._placed(name, value, value) for name, value in held.items()}
        optimizer = attribute(trainer, "optimizer") if self.functions.training.optimizer else None
        optimizer = getattr(trainer, "optimizer", optimizer)
        if optimizer is not None:
            collected |= self._slots(local(optimizer), held)
        average = parameters_of(attribute(trainer, "ema")) if self.functions.training.ema is not None else {}
        return collected | {f"ema/{name}": self._placed(name, x, held.get(name, x)) for name, x in average.items()}

    def _slots(self, optimizers: list[Any], held: Mapping[str, Any]) -> dict[str, Any]:
        """As they are sharded; where each rank trains parameters of its own, their slots lie on that rank."""
        slots, partitioned = {}, is_partitioned(optimizers, held.values())
        for slot, value in _slots(optimizers, {id(value): name for name, value in held.items()}).items():
            name = slot.partition("/")[2]
            placed = self._placed(name, torch.as_tensor(value), held[name])
            slots[f"optimizer/{slot}"] = owned(placed, self.device_mesh) if partitioned else placed
        return slots

    def _parameters(self, trainer: Any) -> Mapping[str, Any]:
        return parameters_of(trainer.model) if hasattr(trainer, "model") else {}

    def _placed(self, name: str, value: torch.Tensor, parameter: Any) -> Any:
        """A tensor of a parameter, by what it says itself, by Megatron's attributes, or by the declared layout."""
        value = value.detach().clone()
        shape = self.shapes.get(name, tuple(value.shape))
        if isinstance(value, DTensor) or not value.ndim or self.mesh is None:
            return value
        placements: Placements | None = self.layout.get(name)
        if placements is None and (said := megatron(parameter, self.mesh)) is not None:
            placements = read_placements(said)
        if placements is not None:
            return Sharded(local=value, placements=placements, shape=shape)
        if tuple(value.shape) != tuple(shape):
            raise Unreadable(
                f"'{name}' has shape {tuple(value.shape)} on a rank and {tuple(shape)} on one device: say how it lies, "
                f"as a DTensor, by Megatron's attributes, or with declare=Declarations(layout={{'{name}': ...}})"
            )
        return value


class Trainer(Implementation):
    """The trainer on every rank, which is the state itself."""

    framework = "torch"

    def place(self, parameters: Arrays, mesh: Any) -> Any:
        functions = self.contract.model
        self.trainers = _Trainers(self.contract, functions.candidate, self.dtype, self.mesh, self.declare().layout)
        return self.trainers.made(parameters, mesh)

    def step(self, state: Any, batch: Arrays) -> tuple[Any, Mapping[str, Any]]:
        return state, self.trainers.step(state, batch)

    def collect(self, state: Any) -> Mapping[str, Any]:
        return self.trainers.collect(state)

    def declare(self) -> Declarations:
        return declared(self.contract.model.declared, self.mesh, self.dtype)


class TrainerReference:
    """A trainer on one device, which is given None for a mesh."""

    def __init__(self, contract: Contract, dtype: str) -> None:
        self.trainers = _Trainers(contract, contract.model.reference, dtype, None)

    def place(self, parameters: Arrays) -> Any:
        return self.trainers.made(parameters, None)

    def step(self, state: Any, batch: Arrays) -> tuple[Any, Mapping[str, Any]]:
        seen = self.trainers.step(state, batch)
        return state, {
            name: value.detach() if isinstance(value, torch.Tensor) else value for name, value in seen.items()
        }

    def collect(self, state: Any) -> Mapping[str, Any]:
        return self.trainers.collect(state)


def _has_gradients(seen: Mapping[str, Any]) -> bool:
    return any(name.startswith("gradients/") for name in seen)


def _buffers(trainer: Any) -> Mapping[str, torch.Tensor]:
    model = getattr(trainer, "model", None)
    models = model if isinstance(model, (list, tuple)) else (model,)
    return {name: value for module in models for name, value in buffers_of(module).items()}


def _averages(trainer: Any) -> int:
    """How often an AveragedModel was updated; 0 where there is none."""
    return int(getattr(getattr(trainer, "ema", None), "n_averaged", 0))


def _slots(optimizer: Any, names: Mapping[int, str]) -> Mapping[str, Any]:
    try:
        return slots_of(optimizer, names)
    except ValueError as failure:
        raise Unreadable(str(failure)) from failure
