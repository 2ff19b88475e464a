"""The two sides of `conformance.check` in torch that are functions, in the clothes of the protocol."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from conformance.cases.functions import Call, Functions
from conformance.contract.contract import Arrays, Contract
from conformance.contract.implementation import Declarations, Implementation
from conformance.inline.calling import called, declared
from conformance.inline.inputs import refuse_complex
from conformance.inline.observed import named, outputs_of
from conformance.inline.torch_model import Model, Tensors, buffers_of, cast, in_dtype, parameters_of, several, slots_of
from conformance.inline.torch_partitioned import refuse_flattened
from conformance.trace.torch_sparse import dense
from conformance.workers.lookup import load

State = dict[str, Any]
Gradients = dict[str, torch.Tensor | None]  # None of a parameter that the loss of the step does not reach


class Reference:
    """The single-device function, differentiated with respect to every parameter that is trained, and its training."""

    def __init__(self, contract: Contract, dtype: str) -> None:
        functions: Functions = contract.model
        self.functions, self.training = functions, functions.training
        self.compute = getattr(torch, dtype)
        kept = contract.recipe.precision.dtype("parameters", dtype)
        self.dtype = getattr(torch, kept) if functions.trains else self.compute
        self.model, self.function = Model(functions), load(functions.reference)

    def place(self, parameters: Arrays) -> State:
        model, training = self.model.built(parameters, self.dtype), self.training
        optimizer = None if training.optimizer is None else called(training.optimizer, model)
        average = _copies(parameters_of(model)) if isinstance(training.ema, float) else {}
        if isinstance(training.ema, Call):
            average = called(training.ema, model)
        return {"model": model, "optimizer": optimizer, "ema": average}

    def step(self, state: State, batch: Arrays) -> tuple[State, Mapping[str, Any]]:
        model = state["model"] if self.functions.trains else copy.deepcopy(state["model"])
        losses, outputs, gradients = self._differentiated(model, cast(batch, self.compute))
        seen = {f"outputs/{name}": _joined(parts) for name, parts in outputs.items()}
        if losses:
            seen |= {"loss": _mean(losses)} | self._whole(gradients, parameters_of(model))
        if state["optimizer"] is not None:
            seen |= self._updated(state, gradients)
        return state, seen | {f"buffers/{name}": value.clone() for name, value in buffers_of(model).items()}

    def collect(self, state: State) -> Mapping[str, Any]:
        held = parameters_of(state["model"])
        collected = {f"parameters/{name}": value.detach().clone() for name, value in held.items()}
        if state["optimizer"] is not None:
            slots = slots_of(state["optimizer"], {id(value): name for name, value in held.items()})
            collected |= {f"optimizer/{name}": torch.as_tensor(value).clone() for name, value in slots.items()}
        return collected | {f"ema/{name}": value.clone() for name, value in parameters_of(state["ema"]).items()}

    def _differentiated(self, model: Any, batch: Tensors) -> tuple[list[Any], dict[str, list[Any]], Gradients]:
        """Losses and outputs of the slices, which follow each other, and their mean gradient."""
        computing = in_dtype(model, self.compute)
        wanted = {n: p for n, p in parameters_of(computing).items() if n not in self.functions.frozen}
        losses, outputs = [], dict[str, list[Any]]()
        sums: Gradients = dict.fromkeys(wanted)
        for part in _slices(batch, self.training.slices):
            loss, seen = outputs_of(self._called(computing, part), parameters_of)
            seen = {name: torch.as_tensor(value) for name, value in seen.items()}
            refuse_complex({name: value.is_complex() for name, value in seen.items()})
            for name, value in seen.items():
                outputs.setdefault(name, []).append(value.detach())
            if loss is not None:
                losses.append(loss.detach())
                for name, gradient in _gradients(loss, wanted).items():
                    own, earlier = gradient.to(self.dtype), sums[name]
                    sums[name] = own if earlier is None else earlier + own
        if computing is not model:
            _restore(model, buffers_of(computing))
        number = self.training.slices
        return losses, outputs, {name: g if g is None or number == 1 else g / number for name, g in sums.items()}

    def _whole(self, gradients: Gradients, held: Tensors) -> Tensors:
        """As they are observed, from the last to the first: dense, and zeros where the loss does not reach."""
        given = {name: torch.zeros_like(held[name]) if g is None else dense(g) for name, g in gradients.items()}
        return {f"gradients/{name}": given[name] for name in reversed(given)}

    def _called(self, model: Any, batch: Tensors) -> Any:
        """Raises ValueError where random numbers change it: each run would be another one, and nothing a yardstick.

        That some are drawn need not show: a module that is built inside draws weights that are replaced.
        """
        before, buffers = torch.get_rng_state(), _copied(model)
        returned = self.function(model, batch)
        if not torch.equal(before, torch.get_rng_state()) and not self._repeats(returned, model, batch, buffers):
            raise ValueError(
                "The reference draws random numbers, as dropout does in training: put the module in eval mode, or draw "
                "masks once and hand them over with the batch."
            )
        return returned

    def _repeats(self, returned: Any, model: Any, batch: Tensors, buffers: Tensors) -> bool:
        """Whether another call from the buffers of before gives the same bits; it leaves the model as it is."""
        after = _copied(model)
        _restore(model, buffers)
        again = self.function(model, batch)
        _restore(model, after)
        return _same(returned, again)

    def _updated(self, state: State, gradients: Gradients) -> dict[str, Any]:
        """By the optimizer, whose gradients are clipped; then the average follows.

        What the loss of this step does not reach has no gradient, and an optimizer leaves it as it is: neither decay
        nor momentum moves it.
        """
        held, training, seen = parameters_of(state["model"]), self.training, dict[str, Any]()
        for name, gradient in gradients.items():
            held[name].grad = None if gradient is None else gradient.clone()
        if training.clip_norm is not None:
            trained = [held[name] for name, gradient in gradients.items() if gradient is not None]
            seen["metrics/grad_norm"] = torch.nn.utils.clip_grad_norm_(trained, training.clip_norm)
        for optimizer in several(state["optimizer"]):
            optimizer.step()
        for name in gradients:
            held[name].grad = None
        self._average(state, held)
        return seen

    def _average(self, state: State, held: Mapping[str, torch.Tensor]) -> None:
        decay = self.training.ema
        if isinstance(decay, Call):
            state["ema"].update_parameters(state["model"])
        elif decay is not None:
            for name, value in state["ema"].items():
                value.mul_(decay).add_(held[name].detach(), alpha=1 - decay)


class Candidate(Implementation):
    """The sharded function on every rank; placing is its own affair, so the state is the canonical parameters."""

    framework = "torch"

    def place(self, parameters: Arrays, mesh: Any) -> Arrays:
        self.model, self.device_mesh = Model(self.contract.model), mesh
        self.function = load(self.contract.model.candidate)
        return parameters

    def step(self, state: Arrays, batch: Arrays) -> tuple[Arrays, Mapping[str, Any]]:
        dtype = getattr(torch, self.dtype)
        model = self.model.built(state, dtype)
        seen = named(self.function(model, cast(batch, dtype), self.device_mesh), parameters_of)
        if isinstance(model, torch.nn.Module):
            refuse_flattened(parameters_of(model), seen)
            left = {f"gradients/{name}": p.grad for name, p in parameters_of(model).items() if p.grad is not None}
            left |= {f"buffers/{name}": value for name, value in buffers_of(model).items()}
            seen = left | seen
        return state, {name: dense(value) for name, value in seen.items()}

    def collect(self, state: Arrays) -> Mapping[str, Any]:
        master = torch.float64 if self.dtype == "float64" else torch.float32
        return {f"parameters/{name}": value for name, value in cast(state, master).items()}

    def declare(self) -> Declarations:
        return declared(self.contract.model.declared, self.mesh, self.dtype)


def _gradients(loss: torch.Tensor, wanted: Tensors) -> Tensors:
    """Of the parameters that the loss reaches; the function itself may have frozen some of them."""
    asked = {name: parameter for name, parameter in wanted.items() if parameter.requires_grad}
    given = torch.autograd.grad(loss, list(asked.values()), allow_unused=True) if asked else ()
    return {name: gradient for name, gradient in zip(asked, given, strict=True) if gradient is not None}


def _copies(values: Tensors) -> Tensors:
    return {name: value.detach().clone() for name, value in values.items()}


def _slices(batch: Tensors, number: int) -> list[Tensors]:
    """Rows in their order, equally many in each slice; what has no rows is in all of them."""
    return [
        {key: x if not x.ndim else x[n * len(x) // number : (n + 1) * len(x) // number] for key, x in batch.items()}
        for n in range(number)
    ]


def _mean(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else sum(values) / len(values)


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """Rows of all slices one after the other; of a number, the mean."""
    return parts[0] if len(parts) == 1 else torch.cat(parts) if parts[0].ndim else _mean(parts)


def _copied(model: Any) -> dict[str, Any]:
    return {name: value.clone() for name, value in buffers_of(model).items()}


def _restore(model: Any, buffers: Tensors) -> None:
    with torch.no_grad():
        for name, value in buffers_of(model).items():
            value.copy_(buffers[name])


def _same(returned: Any, again: Any) -> bool:
    """Whether two calls gave the same bits."""
    first, second = tree_leaves(returned), tree_leaves(again)
    return len(first) == len(second) and all(
        torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(first, second, strict=True)
    )
