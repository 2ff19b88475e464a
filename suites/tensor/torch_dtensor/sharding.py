"""How the modules of one model are sharded over the tensor axis, and what DTensor cannot divide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, distribute_module
from torch.distributed.tensor.parallel import ParallelStyle, parallelize_module

from conformance.contract.implementation import Unsupported
from conformance.contract.placements import sharded_dim
from suites.tensor.dtensor_budget import BUDGETS
from suites.tensor.dtensor_layout import DTensorLayout
from suites.training.step_budget import Budgets
from suites.training.torch.dtensor import DTensorTraining
from suites.training.torch.losses import QuadraticLoss
from suites.training.torch.state import Named
from suites.training.torch.tokens import Tokens


class ReplicatedParallel(ParallelStyle):
    """A module that every rank holds whole, but of which each uses its heads' part: its gradient is a partial sum."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        return distribute_module(module, device_mesh, None, _as_replicated, _as_partly_used)  # type: ignore[arg-type]


def _as_replicated(module: nn.Module, inputs: Any, mesh: DeviceMesh) -> Any:
    x = inputs[0]
    return (x if isinstance(x, DTensor) else DTensor.from_local(x, mesh, [Replicate()], run_check=False), *inputs[1:])


def _as_partly_used(module: nn.Module, outputs: DTensor, mesh: DeviceMesh) -> Tensor:
    return partly_used(outputs)


def partly_used(x: Tensor) -> Tensor:
    """A replicated DTensor -> a plain tensor of which every rank uses its own part."""
    return x.to_local(grad_placements=[Partial()]) if isinstance(x, DTensor) else x


class ReplicatedParameters(ParallelStyle):
    """A module that every rank holds whole; it says itself what each rank uses of it."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        return distribute_module(module, device_mesh)


class TensorByDTensor(DTensorLayout, DTensorTraining, Tokens):
    """Parameters are DTensors on the submesh of the tensor axis, cut as torch does it: nothing padded or repeated."""

    sends: ClassVar[Budgets] = BUDGETS
    stream: ClassVar[Placement] = Replicate()  # how the residual stream lies on that submesh

    def tensor_rank(self) -> int:
        """`DeviceMesh.get_local_rank` would not do: it counts by process number, like its process group."""
        return self.axis(self.tensor_axis).rank

    def new_observations(self) -> Named:
        """Where the modules of one forward pass put what they observe."""
        return {}

    def plan(self) -> Mapping[str, ParallelStyle]:
        """Path of a module (with * for any name) -> how it is sharded."""
        return {}

    def sharded(self, module: nn.Module) -> nn.Module:
        if self.submesh is not None:
            parallelize_module(module, self.submesh, dict(self.plan()), src_data_rank=None)
        return module

    def choose_submesh(self, mesh: DeviceMesh) -> DeviceMesh | None:
        return mesh[self.tensor_axis] if self.tensor_axis in self.mesh.axes else None

    def require_supported(self) -> None:
        for name in self.contract.shapes:
            for stored in self.positions(name).values():
                if len(stored) != self.contract.shapes[name][-1]:
                    raise Unsupported(
                        f"DTensor cuts {name} in equal chunks: over {self.tensor_size()} devices it can neither pad "
                        f"its sections nor store a key head on some of them only."
                    )
        self.refuse_narrow()
        self.refuse_single()

    def refuse_single(self) -> None:
        """The gradient of such a bias is a sum of shape (1, 1), and its view as (1,) is taken to drop the wrong dim."""
        for name, shape in self.contract.shapes.items():
            placed = {axis: placement for axis, placement in self.placements(name).items() if axis in self.mesh.axes}
            if tuple(shape) == (1,) and any(sharded_dim(placement) == 0 for placement in placed.values()):
                raise Unsupported(
                    f"{name} has 1 element, and torch's DTensor cannot view what is divided along a dim of that size: "
                    "its gradient is not made."
                )

    def refuse_narrow(self) -> None:
        """`is_tensor_shardable` in torch asks for a dim that is no shorter than the ranks are many."""
        for name, shape in self.contract.shapes.items():
            dims = [(axis, sharded_dim(placement)) for axis, placement in self.placements(name).items()]
            for axis, dim in dims if name.endswith(".weight") and len(shape) == 2 else ():
                if dim is not None and axis in self.mesh.axes and shape[dim] < self.mesh.size(axis):
                    raise Unsupported(
                        f"{name} has {shape[dim]} features along dim {dim} and '{axis}' {self.mesh.size(axis)} ranks: "
                        f"DTensor gathers a weight that is shorter than that, and every rank computes everything."
                    )

    def refuse_permuted(self) -> None:
        """A gather by DTensor comes back in the order of process numbers, whatever the mesh says.

        `DeviceMesh` sorts the members of its process groups, see https://github.com/pytorch/pytorch/pull/193224.
        Sums do not mind the order.
        """
        if self.mesh.order != "canonical":
            raise Unsupported(
                f"torch's DTensor gathers blocks in the order of process numbers and not in mesh order, so over the "
                f"devices of {self.mesh} a gathered tensor comes back permuted."
            )

    def divides_evenly(self) -> bool:
        """Whether every rank does exactly its share."""
        placed = [(shape, self.placements(name).get(self.tensor_axis)) for name, shape in self.contract.shapes.items()]
        uneven = [
            shape
            for shape, placement in placed
            if placement and shape[sharded_dim(placement) or 0] % self.tensor_size()
        ]
        return not uneven and (self.contract.model.fused_qkv or not self.keys_are_replicated)

    def compute_axes(self) -> tuple[str, ...]:
        sharded = self.divides_evenly() and not self.repeats_products
        return (*self.data_axes, self.tensor_axis) if sharded else super().compute_axes()


class Quadratic(QuadraticLoss, TensorByDTensor):
    """A part of a model by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        observed = self.observe(p, batch)
        return *self.quadratic(observed["outputs/y"], batch), observed
