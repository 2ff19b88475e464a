"""The single-device training step in PyTorch: the reference that sharded programs are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from reference import parameters as canonical
from reference.architecture import mixtures, real_inputs
from reference.batches import parts, slices
from reference.precision import policy
from reference.torch import optimizers
from reference.torch.forward import Forward
from reference.torch.layers import Tensors, dtype_of
from reference.torch.optimizers import total
from reference.torch.rounding import rounded, rounded_total
from reference.torch.transformer import build

State = dict[str, Any]

_TERMS = ("cross_entropy", "z_loss", "balance_loss", "router_z_loss")  # terms of the loss, named as their coefficients


class Trainer:
    """Places parameters, trains and collects the state: `contract` gives model, shapes and recipe (duck-typed).

    A step never changes the state it is given. Tensors are made on torch's default device.
    Raises ValueError for a loss of experts under a declared reduction.
    """

    def __init__(self, contract: Any, dtype: str) -> None:
        self.recipe, self.shapes = contract.recipe, dict(contract.shapes)
        self.policy, self.model = policy(dtype, contract.recipe.precision), contract.model
        self._mixtures = mixtures(self.model)
        if self._mixtures and self.policy.reduction and (self.model.balance_loss or self.model.router_z_loss):
            raise ValueError("A loss of experts is that of a whole slice: leave reduction=None, which cuts no slice.")
        self._sloped = real_inputs(self.model)  # keys of a batch whose gradients are observed
        self._model = build(self.model, self.policy.statistics)

    def place(self, parameters: Mapping[str, np.ndarray]) -> State:
        """Canonical parameters -> state before the first step. Raises ValueError for parameters of another model."""
        canonical.check(self.shapes, parameters)
        dtype = dtype_of(self.policy.optimizer)
        wide = {name: torch.tensor(parameters[name], dtype=dtype) for name in self.shapes}
        return self._state(wide, optimizers.slots(wide, self.recipe), torch.zeros((), dtype=torch.int32))

    def step(self, state: State, batch: Mapping[str, np.ndarray]) -> tuple[State, Tensors]:
        """One training step on the whole batch -> (new state, observations in data-flow order)."""
        forward, backward = self._accumulate(state["parameters"], self._cast(batch))
        gradients = {name: backward[f"gradients/{name}"] for name in self.shapes}
        with torch.no_grad():
            new_state, norm = self._updated(state, gradients, forward)
        return new_state, forward | backward | {"metrics/grad_norm": norm}

    def collect(self, state: State) -> Tensors:
        """State -> parameters/<name>, optimizer/<slot>/<name> (`master` too, where there is one), optimizer/count."""
        collected = {f"parameters/{name}": state["parameters"][name] for name in self.shapes}
        for slot in optimizers.SLOTS[self.recipe.optimizer]:
            collected |= {f"optimizer/{slot}/{name}": state["optimizer"][slot][name] for name in self.shapes}
        if state["master"]:
            collected |= {f"optimizer/master/{name}": state["master"][name] for name in self.shapes}
        return collected | {"optimizer/count": state["count"]}

    def _state(self, wide: Tensors, slots: dict[str, Tensors], count: torch.Tensor) -> State:
        """The parameters between steps, rounded from the master copy where there is one."""
        master = {name: rounded(p, self.policy.master) for name, p in wide.items()} if self.policy.master else {}
        stored = {name: rounded(p, self.policy.parameters) for name, p in (master or wide).items()}
        return {"parameters": stored, "master": master, "optimizer": slots, "count": count}

    def _updated(self, state: State, gradients: Tensors, observations: Tensors) -> tuple[State, torch.Tensor]:
        """The state after one update, which is done in the optimizer's dtype; and the norm of the gradients."""
        dtype, count = self.policy.optimizer, state["count"] + 1
        wide = {name: rounded(p, dtype) for name, p in (state["master"] or state["parameters"]).items()}
        gradients = {name: rounded(g, dtype) for name, g in gradients.items()}
        norm = optimizers.global_norm(gradients)
        clipped = optimizers.clip(gradients, norm, self.recipe.clip_norm)
        moved, slots = optimizers.update(wide, clipped, state["optimizer"], count, self.recipe)
        return self._state(moved | self._levelled(moved, observations), slots, count), norm

    def _levelled(self, moved: Tensors, observations: Tensors) -> Tensors:
        """The router biases after a step: bias += rate * sign(mean load - load), the load being that of all slices.

        The sign is that of sum of loads - experts * load, whole numbers all: where the load is even, it is zero.
        Source: DeepSeek-V3, section 2.1.2.
        """
        biases = {}
        for name in self._mixtures if self.model.router_bias else ():
            load_E, bias_E = observations[f"metrics/load/{name}"], moved[f"{name}.router.bias"]
            sign_E = torch.sign(torch.sum(load_E) - self.model.experts * load_E)
            biases[f"{name}.router.bias"] = bias_E + self.model.bias_update_rate * sign_E.to(
                dtype_of(self.policy.optimizer)
            )
        return biases

    def _accumulate(self, parameters: Tensors, batch: Tensors) -> tuple[Tensors, Tensors]:
        """(forward, backward): what is observed in either, over the slices of a batch; sums of all are divided once.

        Backward: gradients/<parameter> from the last parameter to the first, then input_gradients/<key>.
        """
        loaded = {name: p.to(dtype_of(self.policy.compute)) for name, p in parameters.items()}
        results = [self._slice(loaded, part) for part in slices(batch, self.recipe.accumulation, self.recipe.shares)]
        forwards = [forward for pieces, _ in results for forward in pieces]
        sums = {name: total(forward.sums[name] for forward in forwards) for name in forwards[0].sums}
        weight = torch.where(sums["weight"] == 0, 1, sums["weight"])  # a batch without a valid element: zero gradients
        observed = _observed(forwards, sums, weight, self._mixtures)
        means = {
            name: self._mean([gradients[name] for _, gradients in results], weight) for name in reversed(self.shapes)
        }
        backward = {f"gradients/{name}": g for name, g in means.items()}
        for key in self._sloped:
            slope = torch.cat([forward.slopes[key] for forward in forwards])
            backward[f"input_gradients/{key}"] = self._mean([slope], weight)
        return observed, backward

    def _slice(self, loaded: Tensors, batch: Tensors) -> tuple[list[Forward], Tensors]:
        """Gradients of a slice, summed. With a declared reduction it is cut as if for devices, to round as they do."""
        pieces = parts(batch, self.recipe.precision.reduced_over) if self.policy.reduction else [batch]
        results = [self._differentiate(loaded, piece) for piece in pieces]
        dtype = self.policy.reduction or self.policy.gradients
        sums = {name: rounded_total((gradients[name] for _, gradients in results), dtype) for name in loaded}
        gradients = {name: rounded(g, self.policy.gradients) for name, g in sums.items()}
        return [forward for forward, _ in results], gradients

    def _mean(self, terms: list[torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
        """The gradient as it is kept and reported: the sum over slices by the weight of the whole batch."""
        summed = rounded_total(terms, self.policy.gradients)
        return rounded(rounded(summed, self.policy.optimizer) / weight, self.policy.gradients)

    def _differentiate(self, loaded: Tensors, batch: Tensors) -> tuple[Forward, Tensors]:
        """The model on parameters in the compute dtype; the gradients of its loss sum are in that dtype too."""
        leaves = {name: p.detach().requires_grad_() for name, p in loaded.items()}
        read = {key: batch[key].detach().requires_grad_() for key in self._sloped}
        forward = torch.func.functional_call(self._model, leaves, (batch | read,), strict=True)
        asked = leaves | read
        slopes = torch.autograd.grad(
            forward.sums["loss"], list(asked.values()), materialize_grads=True
        )  # a router bias
        gradients = dict(zip(asked, slopes, strict=True))
        forward = forward._replace(slopes={key: gradients[key] for key in read})
        detached = Forward(*({name: value.detach() for name, value in part.items()} for part in forward))
        return detached, {name: gradients[name] for name in leaves}

    def _cast(self, batch: Mapping[str, np.ndarray]) -> Tensors:
        """Inputs in the compute dtype; float targets, mask and attention mask in `statistics`; ids as they are."""
        wanted = {"inputs": dtype_of(self.policy.compute)}
        tensors = {key: torch.tensor(value) for key, value in batch.items()}
        return {
            key: value.to(wanted.get(key, dtype_of(self.policy.statistics))) if value.is_floating_point() else value
            for key, value in tensors.items()
        }


def _observed(forwards: list[Forward], sums: Tensors, weight: torch.Tensor, mixtures: tuple[str, ...]) -> Tensors:
    """Per-row observations in data-flow order, then metrics and the loss."""
    names = forwards[0].observed
    observed = {name: torch.cat([forward.observed[name] for forward in forwards]) for name in names}
    observed["metrics/tokens"] = sums["tokens"]
    observed |= {f"metrics/load/{name}": sums[f"load/{name}"] for name in mixtures}
    observed |= {f"metrics/{term}": sums[term] / weight for term in _TERMS if term in sums}
    observed["loss"] = sums["loss"] / weight
    return observed
