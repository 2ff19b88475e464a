"""Linear layers by annotation: one program, whose weight has different placements.

B: rows of the batch  I: input features  O: output features
"""

from __future__ import annotations

from collections.abc import Iterable

import jax

from conformance.contract.budget import Allowance
from conformance.contract.implementation import Unsupported
from conformance.contract.placements import Placements, Shard
from suites.tensor import budget
from suites.tensor.jax_automatic.annotations import TensorAnnotations
from suites.training.jax.losses import QuadraticLoss
from suites.training.jax.state import Named


class LinearLayers(TensorAnnotations):
    """y = x w + b."""

    def linear(self, x: jax.Array, name: str, p: Named) -> jax.Array:
        y = x @ p[f"{name}.weight"]
        return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


class Linear(QuadraticLoss, LinearLayers):
    """One linear layer by itself; only its annotations say how it is sharded."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        x_BI = self.annotated_input(batch["inputs"].astype(self.compute))
        y_BO = self.annotated_output(self.linear(x_BI, "linear", self.canonical(p)))
        return *self.quadratic(y_BO, batch), {"outputs/y": y_BO}

    def annotated_input(self, x_BI: jax.Array) -> jax.Array:
        return self.on_rows(x_BI)

    def annotated_output(self, y_BO: jax.Array) -> jax.Array:
        return self.constrain(y_BO, self.output_placements().get("outputs/y", self.row_placements()))


class ColumnLinear(Linear):
    """Columns sharded; the output is gathered, or stays sharded if the contract asks for that."""

    columns = ("linear",)

    def budget(self) -> Iterable[Allowance]:
        return budget.column_linear(self.sizes(self))

    def output_placements(self) -> dict[str, Placements]:
        asked = self.contract.layouts.get("outputs/y")
        return {"outputs/y": asked} if asked else {}


class RowLinear(Linear):
    """Rows sharded; the features of the input are sharded alike, before it arrives if the contract asks for that."""

    rows = ("linear",)

    def budget(self) -> Iterable[Allowance]:
        return budget.row_linear(self.sizes(self))

    def batch_placements(self, key: str) -> Placements:
        asked = self.contract.layouts.get("input_gradients/inputs")
        return asked if asked and key == "inputs" else super().batch_placements(key)

    def annotated_input(self, x_BI: jax.Array) -> jax.Array:
        return self.on_tensor(x_BI, 1)


class Linear2D(Linear):
    """Weight S(0) over the data axis and S(1) over the tensor axis; the batch is replicated."""

    columns = ("linear",)
    row_axes = ()

    def placements(self, name: str) -> Placements:
        tile = {"data": Shard(0)} if name == "linear.weight" else {}
        return {**tile, **super().placements(name)}

    def annotated_input(self, x_BI: jax.Array) -> jax.Array:
        return self.constrain(x_BI, {"data": Shard(1)})

    def budget(self) -> Iterable[Allowance]:
        return budget.linear_2d(self.sizes(self))

    def require_supported(self) -> None:
        model, data = self.contract.model, self.mesh.size("data")
        if model.hidden % data:
            raise Unsupported(f"{model.hidden} input features cannot be divided over {data} devices of the data axis.")


class LinearSubmesh(ColumnLinear):
    """Columns sharded over the data axis alone; the tensor axis, and the batch, are replicated."""

    tensor_axis = "data"
    row_axes = ()
