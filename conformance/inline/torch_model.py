"""Models in torch: a module or a tree of tensors, put together from named values, and what is in it by name."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from conformance.cases.functions import Functions
from conformance.inline import trees
from conformance.inline.template import template
from conformance.trace.torch_wrappers import plain

Tensors = dict[str, torch.Tensor]


class Model:
    """What was handed over, made anew for every placement: nothing is shared by two of them."""

    def __init__(self, functions: Functions) -> None:
        self.functions, self.template = functions, template(functions)

    def built(self, parameters: Mapping[str, np.ndarray], dtype: torch.dtype) -> Any:
        """With these values, in a dtype; what is trained asks for its gradient."""
        if not isinstance(self.template, torch.nn.Module):
            tensors = {name: torch.tensor(value, dtype=dtype) for name, value in parameters.items()}
            for name, tensor in tensors.items():
                tensor.requires_grad_(name not in self.functions.frozen)
            return trees.filled(self.template, tensors)
        module = copy.deepcopy(self.template).to(dtype)
        held = parameters_of(module) | buffers_of(module)
        with torch.no_grad():
            for name, value in (*parameters.items(), *self.functions.buffers.items()):
                held[name].copy_(torch.as_tensor(value))
        for name in self.functions.frozen:
            held[name].requires_grad_(False)
        return module


def in_dtype(model: Any, dtype: torch.dtype) -> Any:
    """The model itself where it has this dtype, else a copy that has."""
    if all(value.dtype == dtype for value in parameters_of(model).values()):
        return model
    if isinstance(model, torch.nn.Module):
        return copy.deepcopy(model).to(dtype)
    return trees.mapped(model, lambda name, leaf: leaf.detach().to(dtype).requires_grad_(leaf.requires_grad))


def parameters_of(model: Any) -> Tensors:
    """By the names of a module that nothing is wrapped around; of several modules, those of all."""
    if isinstance(model, torch.nn.Module):
        return {plain(name): value for name, value in model.named_parameters()}
    if isinstance(model, (list, tuple)) and any(isinstance(module, torch.nn.Module) for module in model):
        return {name: value for module in model for name, value in parameters_of(module).items()}
    return trees.leaves(model)


def buffers_of(model: Any) -> Tensors:
    """Those that a state dict has: what is computed again when a module is made is no state."""
    if not isinstance(model, torch.nn.Module):
        return {}
    kept = {plain(name) for name in model.state_dict(keep_vars=True)}
    return {own: value for name, value in model.named_buffers() if (own := plain(name)) in kept}


def frozen_of(model: torch.nn.Module) -> tuple[str, ...]:
    return tuple(name for name, value in parameters_of(model).items() if not value.requires_grad)


def cast(arrays: Mapping[str, np.ndarray], dtype: torch.dtype) -> Tensors:
    """Real numbers in the dtype, all others as they are."""
    tensors = {name: torch.as_tensor(value) for name, value in arrays.items()}
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}


def several(optimizers: Any) -> list[Any]:
    """One optimizer, or those of a list or of a mapping."""
    if isinstance(optimizers, Mapping):
        return list(optimizers.values())
    return list(optimizers) if isinstance(optimizers, (list, tuple)) else [optimizers]


def slots_of(optimizers: Any, names: Mapping[int, str]) -> Tensors:
    """`<slot>/<parameter>` -> value of one optimizer or several; `names` are those of tensors, by id.

    Raises ValueError, in one sentence, for an optimizer that holds something else than these tensors.
    """
    slots_by_name: Tensors = {}
    for optimizer in several(optimizers):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) not in names:
                    raise ValueError(
                        f"The optimizer holds a tensor of shape {tuple(parameter.shape)} that is no parameter of the "
                        "model: it was made for another model, or before this one was divided."
                    )
                slots = optimizer.state.get(parameter, {})
                named = {slot: value for slot, value in slots.items() if _is_number(value)}
                slots_by_name |= {f"{slot}/{names[id(parameter)]}": value for slot, value in named.items()}
    return slots_by_name


def _is_number(value: Any) -> bool:
    return isinstance(value, (torch.Tensor, float, int)) and not isinstance(value, bool)
