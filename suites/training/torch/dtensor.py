"""The training step of a model made of nn.Modules whose parameters are DTensors.

Each rank keeps its local blocks, as everywhere; for a step they become DTensors, and modules that `parallelize_module`
has prepared compute with them. DTensor decides what is communicated in forward and backward, and hands back gradients
of the local blocks. Rows are sharded by hand: one all-reduce of each gradient over the data axis.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import tensor as dtensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.func import functional_call

from conformance.contract.implementation import Declarations
from conformance.contract.placements import Placements, Replicate, sharded_dim
from suites.training.torch.manual import CollectiveTraining
from suites.training.torch.state import Named, State, arrange, dtype_of, name_of


class DTensorTraining(CollectiveTraining):
    """A model on the submesh of one axis. The state is that of the explicit style: local blocks in the master dtype."""

    model: nn.Module
    submesh: DeviceMesh | None  # None where the mesh lacks the axis: then the modules run on plain tensors

    @abstractmethod
    def build(self) -> nn.Module:
        """The model, batch -> observations; its parameters have their canonical names and are sharded already."""

    @abstractmethod
    def choose_submesh(self, mesh: DeviceMesh) -> DeviceMesh | None:
        """The part of the mesh over which parameters are sharded."""

    def place(self, parameters: dict[str, np.ndarray], mesh: DeviceMesh) -> State:
        self.submesh = self.choose_submesh(mesh)
        state = super().place(parameters, mesh)
        with torch.device("meta"):
            self.model = self.build()
        return state

    def observe(self, p: Named, batch: Named) -> Named:
        """Run the model: batch -> observations."""
        loaded = {name: self.loaded(name, value) for name, value in p.items()}
        return functional_call(self.model, loaded, (batch,), strict=True)

    # Between local blocks and DTensors.

    def loaded(self, name: str, local: Tensor) -> Tensor:
        """A local block -> the parameter of a module: nn.Linear keeps its weight as [out, in]."""
        turned = self.is_turned(name)
        local = local.T if turned else local
        if self.submesh is None or not isinstance(self.model.get_parameter(name), DTensor):
            return local
        return self.as_dtensor(name, local, turned)

    def as_dtensor(self, name: str, local: Tensor, turned: bool = False) -> DTensor:
        """A local block of a parameter, or of its transpose -> the whole, differentiably."""
        shape = self.stored_shape(name)[:: -1 if turned else 1]
        stride = torch.empty(shape, device="meta").stride()
        placements = self.dtensor_placements(self.placements(name), turned)
        return DTensor.from_local(
            local, self.submesh, placements, run_check=False, shape=torch.Size(shape), stride=stride
        )

    def declare(self) -> Declarations:
        """Autograd sums what is partial over the axis in the dtype of computation: the cast lies behind the DTensor."""
        return replace(super().declare(), reduction_dtype=name_of(self.compute))

    def is_turned(self, name: str) -> bool:
        return isinstance(self.model.get_submodule(name.rpartition(".")[0]), nn.Linear) and name.endswith(".weight")

    def dtensor_placements(self, placements: Placements, turned: bool = False) -> list[dtensor.Placement]:
        """Ours -> torch's placements on the submesh."""
        assert self.submesh is not None
        dims = [sharded_dim(placements.get(axis, Replicate())) for axis in self.submesh.mesh_dim_names or ()]
        return [dtensor.Replicate() if dim is None else dtensor.Shard(1 - dim if turned else dim) for dim in dims]

    def stored(self, name: str, canonical: np.ndarray) -> Tensor:
        return self.slot(name, canonical).to(dtype_of(self.stored_dtype))

    def slot(self, name: str, canonical: np.ndarray) -> Tensor:
        """DTensor cuts in ceil-sized chunks, the last ones shorter or empty."""
        whole = torch.tensor(arrange(canonical, self.positions(name)), dtype=self.master)
        if self.submesh is None:
            return whole
        placements = self.dtensor_placements(self.placements(name))
        return distribute_tensor(whole, self.submesh, placements, src_data_rank=None).to_local().clone()
