"""Linear layers sharded by columns, by rows, or both.

B: rows of the batch  I: input features  O: output features
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.distributed import tensor as dtensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, distribute_module
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel

from conformance.contract.implementation import Unsupported
from conformance.contract.placements import Placements, Shard
from suites.tensor.dtensor_budget import COLUMNS, ROWS, SUBMESH, TILES
from suites.tensor.torch_dtensor.sharding import Quadratic
from suites.training.step_budget import Budgets
from suites.training.torch.state import Named


class OneLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias)

    def forward(self, batch: Named) -> Named:
        return {"outputs/y": self.linear(batch["inputs"])}


class LinearContract(Quadratic):
    def build(self) -> nn.Module:
        model = self.contract.model
        return self.sharded(OneLinear(model.hidden, model.outputs, model.bias))


class ColumnLinear(LinearContract):
    """Weight S(1), bias S(0); the output is gathered, or stays sharded if the contract asks for that."""

    sends: ClassVar[Budgets] = {"linear": COLUMNS}
    columns = ("linear",)

    @property
    def stays_sharded(self) -> bool:
        return Shard(1) in self.contract.layouts.get("outputs/y", {}).values()

    def plan(self) -> Mapping[str, ParallelStyle]:
        return {
            "linear": ColwiseParallel(output_layouts=dtensor.Shard(-1) if self.stays_sharded else dtensor.Replicate())
        }

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        loss, weight, observed = super().forward(p, batch)
        if self.stays_sharded and self.submesh is not None:
            loss = DTensor.from_local(loss, self.submesh, [dtensor.Partial()], run_check=False).full_tensor()
        return loss, weight, observed

    def output_placements(self) -> dict[str, Placements]:
        sharded = {**self.row_placements(), self.tensor_axis: Shard(1)}
        return {"outputs/y": sharded} if self.stays_sharded else {}

    def batch_placements(self, key: str) -> Placements:
        return (
            self.output_placements()["outputs/y"] if self.stays_sharded and key == "targets" else self.row_placements()
        )

    def require_supported(self) -> None:
        super().require_supported()
        refuse_uneven(self.stays_sharded, self.contract.model.outputs, "output", self.tensor_size())
        if not self.stays_sharded:
            self.refuse_permuted()


class RowLinear(LinearContract):
    """Weight S(0), bias replicated; the input is split here, or arrives sharded if the contract says so."""

    sends: ClassVar[Budgets] = {"linear": ROWS}
    rows = ("linear",)

    @property
    def arrives_sharded(self) -> bool:
        return Shard(1) in self.contract.layouts.get("input_gradients/inputs", {}).values()

    def plan(self) -> Mapping[str, ParallelStyle]:
        return {
            "linear": RowwiseParallel(input_layouts=dtensor.Shard(-1) if self.arrives_sharded else dtensor.Replicate())
        }

    def batch_placements(self, key: str) -> Placements:
        sharded = {**self.row_placements(), self.tensor_axis: Shard(1)}
        return sharded if self.arrives_sharded and key == "inputs" else self.row_placements()

    def require_supported(self) -> None:
        super().require_supported()
        refuse_uneven(self.arrives_sharded, self.contract.model.hidden, "input", self.tensor_size())
        size = self.tensor_size()
        if self.contract.exact and size & (size - 1):
            raise Unsupported(
                f"torch's RowwiseParallel adds 1/{size} of the bias to each partial sum, and dividing by "
                f"{size} rounds: the sum is right, but not exactly so."
            )


class Linear2D(LinearContract):
    """Weight S(0) over the data axis and S(1) over the tensor axis: one DTensor on the whole mesh.

    The inputs arrive sharded along their features over the data axis.
    """

    sends: ClassVar[Budgets] = {"linear": TILES}
    columns = ("linear",)
    row_axes = ()
    model_axes = ("data", "tensor")

    def choose_submesh(self, mesh: DeviceMesh) -> DeviceMesh:
        return mesh

    def placements(self, name: str) -> Placements:
        tile = {"data": Shard(0)} if name == "linear.weight" else {}
        return {**tile, **super().placements(name)}

    def batch_placements(self, key: str) -> Placements:
        return {"data": Shard(1)} if key == "inputs" else {}

    def build(self) -> nn.Module:
        """Features of the inputs meet rows of the weight; what comes out is summed over data, gathered over tensor."""
        whole = [dtensor.Replicate()] * len(self.mesh.axes)
        x_placements = self.dtensor_placements({"data": Shard(1)})

        def enter(module: nn.Module, inputs: tuple[Named], mesh: DeviceMesh) -> Named:
            x_BI = DTensor.from_local(inputs[0]["inputs"], mesh, x_placements, run_check=False)
            return {**inputs[0], "inputs": x_BI}

        def leave(module: nn.Module, outputs: dict[str, DTensor], mesh: DeviceMesh) -> Named:
            return {"outputs/y": outputs["outputs/y"].redistribute(placements=whole).to_local()}

        model = self.contract.model
        module = OneLinear(model.hidden, model.outputs, model.bias)
        return distribute_module(module, self.submesh, None, enter, leave)  # type: ignore[arg-type]

    def require_supported(self) -> None:
        super().require_supported()
        refuse_uneven(True, self.contract.model.hidden, "input", self.mesh.size("data"))
        self.refuse_permuted()

    def compute_axes(self) -> tuple[str, ...]:
        return ("data", "tensor")


class LinearSubmesh(ColumnLinear):
    """Sharded by columns over the data axis alone; the tensor axis, and the batch, are replicated."""

    sends: ClassVar[Budgets] = {"linear": SUBMESH}
    tensor_axis = "data"
    model_axes = ("data",)
    row_axes = ()


def refuse_uneven(sharded: bool, features: int, kind: str, parts: int) -> None:
    """A local block is taken for one of equal blocks: `DTensor.from_local` knows no other."""
    if sharded and features % parts:
        raise Unsupported(
            f"{features} {kind} features do not divide over {parts} devices, and DTensor.from_local takes the blocks "
            f"that a parallel style receives or hands out for equal ones."
        )
