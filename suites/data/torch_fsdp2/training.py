"""Fully sharded data parallelism by torch's `fully_shard` (FSDP2), hybrid sharding on a mesh of data x fsdp.

The law is that of ZeRO stage 3; FSDP2 decides when to gather and to reduce. State is cut as by DTensor: chunks along
dim 0, the last ones shorter or empty, none padded. Slices before the last are not reduced (`no_sync`): their gradients
are added up whole on each rank.
Source: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.distributed import tensor as dtensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import get_total_norm

from conformance.contract.implementation import Unsupported
from suites.data.fsdp2_budget import BUDGETS, EVALUATED, FullyShardedState
from suites.data.torch_fsdp2.modules import Node, fill, sharded, tree
from suites.data.torch_fsdp2.optimizers import updated
from suites.data.torch_manual.contrastive import ContrastiveTowers
from suites.data.torch_manual.evaluation import Evaluation
from suites.tensor.torch_manual import linear, transformer
from suites.training.state_layout import OF_INPUTS
from suites.training.step_budget import Budgets
from suites.training.torch.manual import CollectiveTraining
from suites.training.torch.recompute import Layer as RecomputedLayer
from suites.training.torch.recompute import recomputing
from suites.training.torch.state import Named, State, dtype_of

AXES = ("data", "fsdp")


class FullyShard(FullyShardedState, CollectiveTraining):
    """A mixin for a training step whose model is a function of named parameters."""

    sends: ClassVar[Budgets] = BUDGETS

    @cached_property
    def model(self) -> Node:
        return sharded(tree(self.contract.shapes, self.master), self.layer_paths, self.state_mesh, self.policy())

    def policy(self) -> MixedPrecisionPolicy:
        """Parameters are rounded before they are gathered, gradients before they are summed."""
        return MixedPrecisionPolicy(
            param_dtype=self.compute, reduce_dtype=dtype_of(self.reduction_dtype), cast_forward_inputs=False
        )

    @property
    def layer_paths(self) -> list[str]:
        number = self.contract.model.layers
        return [f"layers.{i}" for i in range(number)] or ["layer"] * (self.contract.model.kind == "layer")

    @cached_property
    def state_mesh(self) -> DeviceMesh:
        """The mesh with both axes: hybrid sharding wants one, if only of size 1, over which state is replicated."""
        sizes = [self.mesh.size(axis) for axis in AXES]
        return DeviceMesh(self.device_mesh.device_type, self.device_mesh.mesh.reshape(sizes), mesh_dim_names=AXES)

    # The model, called through the modules that hold its parameters.

    def accumulate(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        fill(self.model, parameters)
        sizes = self.slice_sizes(len(batch["mask"]))
        slices = zip(*(value.split(sizes) for value in batch.values()), strict=True)
        done = [
            self.run_slice(dict(zip(batch, values, strict=True)), last=number == len(sizes))
            for number, values in enumerate(slices, 1)
        ]
        gradients = {name: self.round_gradient(cast(DTensor, p.grad)) for name, p in self.model.named_parameters()}
        sums = {name: torch.stack([part[name] for part, _ in done]).sum() for name in done[0][0]}
        return gradients, sums, {name: torch.cat([part[name] for _, part in done]) for name in done[0][1]}

    def run_slice(self, batch: Named, last: bool) -> tuple[Named, Named]:
        """(sums, rows) of one slice; gradients are kept by the modules, and reduced with those of the last slice."""
        root = cast(FSDPModule, self.model)
        root.set_is_last_backward(last)
        root.set_requires_gradient_sync(last)
        read = self.differentiable(batch)
        loss, weight, observed = self.model(self.forward, batch | read)
        loss.backward()
        observed = {name: value.detach() for name, value in observed.items()}
        observed |= {f"{OF_INPUTS}{key}": leaf.grad for key, leaf in read.items() if leaf.grad is not None}
        metrics = {name: observed.pop(name) for name in list(observed) if name.startswith("metrics/")}
        return {"weight": weight, **metrics, "loss": loss.detach()}, observed

    def decoder_layer(self, x: Tensor, batch: Named, name: str, p: Named, observed: Named) -> Tensor:
        """Through the module, which gathers what belongs to the layer."""
        y, seen = self.model.get_submodule(name)(partial(self.inside_layer, name), x, batch)
        observed.update(seen)
        return y

    def inside_layer(self, name: str, p: Named, x: Tensor, batch: Named) -> tuple[Tensor, Named]:
        observed: Named = {}
        layer: RecomputedLayer = super().decoder_layer  # type: ignore[misc]
        layer = recomputing(layer) if self.recomputes else layer
        return layer(x, batch, name, {f"{name}.{path}": value for path, value in p.items()}, observed), observed

    def recomputed(self, layer: RecomputedLayer) -> RecomputedLayer:
        """A layer is computed again inside its module, while that is gathered."""
        return layer

    # Gradients come reduced and sharded from FSDP2.

    def read_parameters(self, state: State) -> Named:
        """FSDP2 casts its shards before the all-gather; they are the master copies where there are any."""
        return state["optimizer"].get("master") or state["parameters"]

    def mean_gradient(self, name: str, g: Tensor, weight: Tensor) -> Tensor:
        return self.round_gradient(g.to(self.master) / weight)

    def global_norm(self, gradients: Named) -> Tensor:
        norm = get_total_norm(gradients.values())
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def update(self, state: State, gradients: Named, factor: Tensor) -> State:
        """By torch's own optimizer, where that has the recipe's update rule."""
        if self.contract.recipe.optimizer in ("muon", "lamb"):
            return super().update(state, gradients, factor)
        slots, count = dict(state["optimizer"]), state["count"] + 1
        wide = slots.pop("master", None) or state["parameters"]
        clipped = {name: factor * g for name, g in gradients.items()}
        decay = {name: self.weight_decay(name) for name in wide}
        wide, slots = updated(self.contract.recipe, wide, slots, clipped, count, decay)
        stored = {name: p.to(dtype_of(self.stored_dtype)) for name, p in wide.items()}
        return {
            "parameters": stored,
            "optimizer": slots | ({"master": wide} if self.master_dtype else {}),
            "count": count,
        }

    def tensor_norms(self, values: Named) -> Named:
        """DTensor sums over its shards by itself."""
        norms = {name: torch.linalg.vector_norm(value) for name, value in values.items()}
        return {name: norm.full_tensor() if isinstance(norm, DTensor) else norm for name, norm in norms.items()}

    # State is made of DTensors.

    def stored(self, name: str, canonical: np.ndarray) -> Tensor:
        return self.slot(name, canonical).to(dtype_of(self.stored_dtype))

    def slot(self, name: str, canonical: np.ndarray) -> Tensor:
        whole = torch.tensor(canonical, dtype=self.master)
        return distribute_tensor(whole, self.state_mesh, [dtensor.Replicate(), dtensor.Shard(0)], src_data_rank=None)

    def part_of(self, name: str, value: Tensor, *_: Any) -> Tensor:
        """A DTensor carries its own placements."""
        return value

    def gathered(self, x: Tensor, *_: Any) -> Tensor:
        return cast(DTensor, x).full_tensor()

    # Refusals and declarations.

    def require_supported(self) -> None:
        super().require_supported()
        if set(self.mesh.axes) - set(AXES):
            raise Unsupported(f"FSDP2 here divides over {' and '.join(AXES)}, not over all axes of {self.mesh}.")
        if self.stored_dtype != self.gradient_dtype and not self.master_dtype and self.stored_dtype == "bfloat16":
            raise Unsupported(
                "FSDP2 keeps gradients in the dtype of the parameters that it holds: for parameters in bfloat16 "
                "there are no gradients in float32."
            )
        lines = np.array(self.mesh.device_order).reshape(self.mesh.shape)
        lines = np.moveaxis(lines, self.mesh.axes.index("fsdp"), -1) if "fsdp" in self.mesh.axes else lines[..., None]
        if (np.diff(lines, axis=-1) < 0).any():
            raise Unsupported(
                "FSDP2 counts shards by process numbers and DTensor by places in the mesh: over the devices of "
                f"{self.mesh} the two disagree, and what one has cut comes back permuted from the other."
            )


class Linear(FullyShard, linear.ColumnLinear):
    """One linear layer."""


class Layer(FullyShard, transformer.Layer):
    """One decoder layer."""


class LanguageModel(FullyShard, transformer.LanguageModel):
    """The decoder language model."""


class Contrastive(FullyShard, ContrastiveTowers):
    """Two towers and a loss that couples all rows."""


class Evaluated(Evaluation, LanguageModel):
    """The same, and an evaluation after every step."""

    sends = EVALUATED

    def evaluate(self, state: State, parts: list[Named]) -> list[Tensor]:
        """Reshards the parameters after each round, since there is no backward pass that would do it."""
        fill(self.model, self.read_parameters(state))
        sums = []
        for part in parts:
            sums.append(self.model(self.round_sums, part))
            cast(FSDPModule, self.model).reshard()
        return sums
