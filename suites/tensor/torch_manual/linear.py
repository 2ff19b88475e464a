"""Linear layers whose columns or rows are sharded over the tensor axis.

B: rows of the batch  I: input features  O: output features, or this rank's part of them
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from conformance.contract.implementation import Unsupported
from conformance.contract.placements import Placements, Shard
from suites.tensor.layout import positions
from suites.tensor.step_budget import COLUMNS, ROWS, SUBMESH, TILES
from suites.tensor.torch_manual.collectives import TensorParallel
from suites.training.state_layout import Positions
from suites.training.step_budget import Budgets
from suites.training.torch.losses import QuadraticLoss
from suites.training.torch.state import Named


class LinearLayers(TensorParallel):
    """The two linear layers of Megatron, and what happens where a block of them begins and ends."""

    def enter_block(self, x: Tensor) -> Tensor:
        """Replicated activations enter a block whose weights are sharded."""
        return self.copy_to_tensor(x)

    def leave_block(self, y: Tensor) -> Tensor:
        """Partial sums leave it, replicated again."""
        return self.reduce_from_tensor(y)

    def entered_product(self, x: Tensor, w: Tensor) -> Tensor:
        """A block that is one product."""
        return self.enter_block(x) @ w

    def column_linear(self, x: Tensor, name: str, p: Named) -> Tensor:
        """x already entered; weight S(1), bias S(0) -> this rank's output features."""
        y = x @ p[f"{name}.weight"]
        return y + p[f"{name}.bias"] if f"{name}.bias" in p else y

    def row_linear(self, x: Tensor, name: str, p: Named) -> Tensor:
        """x sharded along its features, weight S(0) -> the whole output; the bias is added once, after the sum."""
        y = self.leave_block(x @ p[f"{name}.weight"])
        return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


class ColumnLinear(QuadraticLoss, LinearLayers):
    """y = x w + b with columns sharded; the output is gathered, or stays sharded if the contract asks for that."""

    sends: ClassVar[Budgets] = {"linear": COLUMNS}
    columns = ("linear",)

    @property
    def stays_sharded(self) -> bool:
        return Shard(1) in self.contract.layouts.get("outputs/y", {}).values()

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        y_BO = self.column_linear(self.enter_block(batch["inputs"]), "linear", p)
        if self.stays_sharded:
            loss, weight = self.quadratic(y_BO, batch)
            return self.reduce_from_tensor(loss), weight, {"outputs/y": y_BO}
        y_BO = self.gather_output(y_BO)
        return *self.quadratic(y_BO, batch), {"outputs/y": y_BO}

    def gather_output(self, y_BO: Tensor) -> Tensor:
        """All features on every rank, without those that only fill up the last ranks."""
        return self.gather_from_tensor(y_BO, -1)[..., : self.contract.model.outputs]

    def output_placements(self) -> dict[str, Placements]:
        sharded = {**self.row_placements(), self.tensor_axis: Shard(1)}
        return {"outputs/y": sharded} if self.stays_sharded else {}

    def batch_placements(self, key: str) -> Placements:
        return (
            self.output_placements()["outputs/y"] if self.stays_sharded and key == "targets" else self.row_placements()
        )

    def positions(self, name: str) -> Positions:
        outputs = self.contract.model.outputs
        if name == "outputs/y" and self.stays_sharded and outputs % self.tensor_size():
            return {1: positions([(outputs, 1)], self.tensor_size())}
        return super().positions(name)


class RowLinear(QuadraticLoss, LinearLayers):
    """y = x w + b with rows sharded; the input is split here, or arrives sharded if the contract says so."""

    sends: ClassVar[Budgets] = {"linear": ROWS}
    rows = ("linear",)

    @property
    def arrives_sharded(self) -> bool:
        return Shard(1) in self.contract.layouts.get("input_gradients/inputs", {}).values()

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        x_BI = batch["inputs"] if self.arrives_sharded else self.split_to_tensor(batch["inputs"], -1)
        y_BO = self.row_linear(x_BI, "linear", p)
        return *self.quadratic(y_BO, batch), {"outputs/y": y_BO}

    def batch_placements(self, key: str) -> Placements:
        sharded = {**self.row_placements(), self.tensor_axis: Shard(1)}
        return sharded if self.arrives_sharded and key == "inputs" else self.row_placements()


class Linear2D(QuadraticLoss, LinearLayers):
    """Weight S(0) over the data axis and S(1) over the tensor axis, so that each rank holds one tile of it.

    The inputs arrive sharded along their features over the data axis: row-parallel there, column-parallel over tensor.
    """

    sends: ClassVar[Budgets] = {"linear": TILES}
    columns = ("linear",)
    row_axes = ()
    model_axes = ("data", "tensor")

    def placements(self, name: str) -> Placements:
        tile = {"data": Shard(0)} if name == "linear.weight" else {}
        return {**tile, **super().placements(name)}

    def batch_placements(self, key: str) -> Placements:
        return {"data": Shard(1)} if key == "inputs" else {}

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        y_BO = self.row_linear(self.enter_block(batch["inputs"]), "linear", p)
        y_BO = self.gather_from_tensor(y_BO, -1)
        return *self.quadratic(y_BO, batch), {"outputs/y": y_BO}

    def leave_block(self, y: Tensor) -> Tensor:
        return self.reduce_from(y, "data")

    def require_supported(self) -> None:
        model, data, tensor = self.contract.model, self.mesh.size("data"), self.tensor_size()
        if model.hidden % data or model.outputs % tensor:
            raise Unsupported(
                f"A weight of {model.hidden} x {model.outputs} cannot be cut into {data} x {tensor} equal tiles."
            )


class LinearSubmesh(ColumnLinear):
    """Column-parallel over the data axis alone; the tensor axis, and the batch, are replicated."""

    sends: ClassVar[Budgets] = {"linear": SUBMESH}
    tensor_axis = "data"
    model_axes = ("data",)
    row_axes = ()
