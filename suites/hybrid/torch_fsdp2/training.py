"""The training step of a decoder that torch shards by itself over data, fsdp and tensor.

Tokens of the residual stream lie over tensor; FSDP2 decides when to gather and to reduce, DTensor what happens within
a layer. The modules and torch's optimizer hold the state and update it in place; `step` fills them from the state that
it is given and hands out copies.
Sources: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html;
https://docs.pytorch.org/docs/stable/distributed.tensor.parallel.html;
Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

from conformance.contract.implementation import Reordered, Sharded, Unsupported
from conformance.contract.placements import Replicate, chunk, sharded_dim
from suites.data.torch_fsdp2.modules import fill
from suites.data.torch_fsdp2.optimizers import STATE, build, groups
from suites.hybrid.step_budget import FSDP2_TENSOR
from suites.hybrid.torch_fsdp2.layout import UnitShards
from suites.hybrid.torch_fsdp2.modules import Decoder, wrap
from suites.sequence.torch_dtensor import transformer
from suites.training.step_budget import Budgets
from suites.training.torch.state import Named, State, dtype_of, name_of


class LanguageModel(UnitShards, transformer.LanguageModel):
    """The decoder language model; embedding and head are divided by vocabulary."""

    sends: ClassVar[Budgets] = FSDP2_TENSOR
    optimizer: torch.optim.Optimizer

    # The modules.

    def place(self, parameters: dict[str, np.ndarray], mesh: DeviceMesh) -> State:
        self.require_whole_blocks()
        self.settle(mesh)
        return self.state(parameters)

    def settle(self, mesh: DeviceMesh, memory: AbstractContextManager[Any] | None = None) -> None:
        """Modules and optimizer on a mesh, made once; within `memory` their tensors come to be."""
        if hasattr(self, "optimizer"):
            return
        self.require_supported()
        self.device_mesh, self.submesh = mesh, self.choose_submesh(mesh)
        assert self.axes  # read from the mesh now: within `memory` nothing has values
        with torch.device("meta"):
            self.model = self.build()
        with memory or nullcontext():
            self.model.to_empty(device="cpu")
            decay = {name: self.weight_decay(name) for name in self.contract.shapes}
            self.optimizer = build(self.contract.recipe, groups(self.parameters, decay))

    def build(self) -> nn.Module:
        model = self.sharded(Decoder(self).to(self.master))
        for path in self.unit_paths:
            self.wrapped(model, path)
        return model

    def wrapped(self, model: nn.Module, path: str) -> None:
        """One module of the model becomes a unit."""
        wrap(model.get_submodule(path), self.state_mesh, self.policy())

    @property
    def unit_paths(self) -> list[str]:
        """What is gathered at once: every layer by itself, and last of all what belongs to none."""
        return [*(f"layers.{i}" for i in range(self.contract.model.layers)), ""]

    @property
    def state_mesh(self) -> DeviceMesh:
        """Over `fsdp` the state is divided; over `data`, where the mesh has it, it is replicated."""
        return self.device_mesh["data", "fsdp"] if "data" in self.mesh.axes else self.device_mesh["fsdp"]

    def policy(self) -> MixedPrecisionPolicy:
        """Parameters are rounded before they are gathered, gradients before they are summed."""
        return MixedPrecisionPolicy(
            param_dtype=self.compute, reduce_dtype=dtype_of(self.reduction_dtype), cast_forward_inputs=False
        )

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    # The step, in place.

    def step(self, state: State, batch: dict[str, np.ndarray]) -> tuple[State, Mapping[str, Any]]:
        self.restore(state)
        return super().step(state, batch)

    def read_parameters(self, state: State) -> Named:
        """The modules hold them."""
        return {}

    def observe(self, p: Named, batch: Named) -> Named:
        return self.model(batch)

    def accumulate(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        with self.loss_context():  # it must be on for the backward pass, too
            loss, weight, observed = self.forward(parameters, batch)
            loss.backward()
        gradients = {name: cast(Tensor, p.grad) for name, p in self.parameters.items()}
        rows = {name: value.detach() for name, value in observed.items()}
        metrics = {name: rows.pop(name) for name in list(rows) if name.startswith("metrics/")}
        return gradients, {"weight": weight, **metrics, "loss": loss.detach()}, rows

    def mean_gradient(self, name: str, g: Tensor, weight: Tensor) -> Tensor:
        local(g).div_(weight)
        return g

    def squared_norm(self, name: str, g: Tensor) -> Tensor:
        return super().squared_norm(name, local(g))

    def as_gradient(self, name: str, value: Tensor) -> Any:
        """A copy: clipping goes on in place."""
        return self.canonical(name, value.clone())

    def update(self, state: State, gradients: Named, factor: Tensor) -> State:
        for g in gradients.values():
            local(g).mul_(factor)
        self.optimizer.step()
        return self.copies(state["count"] + 1)

    # State is made of DTensors that lie as those of the modules do.

    def state(self, parameters: Mapping[str, np.ndarray]) -> State:
        with torch.no_grad():
            stored = {name: self.slot(name, array) for name, array in parameters.items()}
            slots = {slot: {n: torch.zeros_like(p) for n, p in stored.items()} for slot in self.zero_slots}
        return {"parameters": stored, "optimizer": slots, "count": 0}

    def restore(self, state: State) -> None:
        fill(self.model, state["parameters"])
        for name, p in self.parameters.items():
            slots = {STATE[slot]: values[name].clone() for slot, values in state["optimizer"].items()}
            self.optimizer.state[p] = slots | {"step": torch.tensor(float(state["count"]))}

    def copies(self, count: int) -> State:
        own = {name: p.detach().clone() for name, p in self.parameters.items()}
        kept = self.optimizer.state
        slots = {
            slot: {n: kept[p][STATE[slot]].clone() for n, p in self.parameters.items()} for slot in self.zero_slots
        }
        return {"parameters": own, "optimizer": slots, "count": count}

    def slot(self, name: str, canonical: np.ndarray) -> Tensor:
        """Cut over tensor first, then over fsdp, in ceil-sized chunks."""
        p, placements = self.parameters[name], self.placements(name)
        for axis in ("tensor", "fsdp"):
            if (dim := sharded_dim(placements.get(axis, Replicate()))) is not None:
                own = slice(*chunk(0, canonical.shape[dim], self.axis(axis).size, self.axis(axis).rank))
                canonical = canonical[(slice(None),) * dim + (own,)]
        block = torch.tensor(canonical.T if self.is_turned(name) else canonical, dtype=self.master).contiguous()
        like = cast(DTensor, p)
        return DTensor.from_local(
            block, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )

    def as_stored(self, name: str, value: Tensor) -> Any:
        return self.canonical(name, value)

    def as_slot(self, name: str, value: Tensor) -> Any:
        return self.canonical(name, value)

    def canonical(self, name: str, value: Tensor) -> Sharded | Reordered:
        """A parameter as its module stores it -> in the terms of the contract."""
        block = local(value).T if self.is_turned(name) else local(value)
        placements = {axis: p for axis, p in self.placements(name).items() if self.mesh.size(axis) > 1}
        stored = Sharded(local=block, placements=placements, shape=self.contract.shapes[name])
        if not self.nests(name):
            return stored
        dim, parts = sharded_dim(placements["fsdp"]) or 0, (self.mesh.size("tensor"), self.mesh.size("fsdp"))
        order = np.arange(stored.shape[dim]).reshape(*parts, -1).swapaxes(0, 1).reshape(-1)  # tensor divides it first
        return Reordered(value=stored, shape=stored.shape, index_map={dim: order})

    def nests(self, name: str) -> bool:
        """Whether both axes divide the same dim."""
        placements = self.placements(name)
        sizes = [self.mesh.size(axis) for axis in ("fsdp", "tensor")]
        return min(sizes) > 1 and placements["fsdp"] == placements.get("tensor")

    # Refusals and declarations.

    def require_supported(self) -> None:
        super().require_supported()
        recipe = self.contract.recipe
        order = [axis for axis in ("data", "fsdp", "tensor") if axis in self.mesh.axes]
        if list(self.mesh.axes) != order or "fsdp" not in order:
            raise Unsupported(
                f"FSDP2 and DTensor divide over data, fsdp and tensor in this order, not over {self.mesh}."
            )
        if recipe.accumulation > 1 or self.master_dtype or self.stored_dtype != name_of(self.master):
            raise Unsupported("This program has no accumulation, and no parameters narrower than its optimizer slots.")
        if self.contract.model.tied or recipe.optimizer not in ("sgd", "adamw"):
            raise Unsupported("This program has a head of its own, and torch's SGD or AdamW.")

    def require_whole_blocks(self) -> None:
        """Refuse what cannot be collected: FSDP2 itself pads a chunk that is shorter than the others."""
        for name, shape in self.contract.shapes.items():
            size = shape[sharded_dim(self.placements(name)["fsdp"]) or 0]
            parts = self.mesh.size("fsdp") * self.tensor_size()
            if self.nests(name) and size % parts:
                raise Unsupported(
                    f"What FSDP2 and DTensor cut unevenly along the same dim is no block that can be named: {size} "
                    f"features of {name} do not divide over {parts} devices."
                )


def local(x: Tensor) -> Tensor:
    return x.to_local() if isinstance(x, DTensor) else x
