"""The layout of a training step's state on the devices: placements of parameters, slots, batch and outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np

from conformance.contract.contract import Contract
from conformance.contract.implementation import Implementation, Unsupported
from conformance.contract.mesh import Mesh
from conformance.contract.placements import Placements, Replicate, Shard, sharded_dim
from reference.architecture import is_weight, real_inputs

# Observations that have rows, by how their names begin.
OBSERVED = ("outputs/", "activations/", "masks/", "scores/", "choices/", "routing/")
OF_INPUTS = "input_gradients/"  # how the name of the gradient with respect to a key of the batch begins
Positions = Mapping[int, np.ndarray]
Array = TypeVar("Array", bound=Any)


class StateLayout:
    """Where parameters, rows and what is kept of them lie on a mesh. A suite overrides the placements.

    It is a plan, known from contract, mesh and dtype alone: programs follow it, and budgets are made from it.
    """

    contract: Contract
    mesh: Mesh
    dtype: str

    def __init__(self, contract: Contract, mesh: Mesh, dtype: str) -> None:
        self.contract, self.mesh, self.dtype = contract, mesh, dtype

    row_axes: ClassVar[tuple[str, ...]] = ("data",)  # the axes that shard the rows of a batch
    token_axes: ClassVar[tuple[str, ...]] = ()  # the axes that shard the tokens of a row
    model_axes: ClassVar[tuple[str, ...]] = ()  # the axes that shard parameters

    @property
    def data_axes(self) -> tuple[str, ...]:
        """The axes that shard the data: losses and gradients are summed over them."""
        return (*self.row_axes, *self.token_axes)

    # Dtypes, by name. In a float64 case everything is float64.

    @property
    def stored_dtype(self) -> str:
        """Dtype of the stored parameters between steps."""
        return self.contract.recipe.precision.dtype("parameters", self.dtype)

    @property
    def compute_dtype(self) -> str:
        """Dtype of activations and of the parameters that meet them."""
        return self.contract.recipe.precision.dtype("compute", self.dtype)

    @property
    def gradient_dtype(self) -> str:
        """Dtype in which gradients are accumulated over slices and reported."""
        return self.contract.recipe.precision.dtype("gradients", self.dtype)

    @property
    def reduction_dtype(self) -> str:
        """Dtype of the reduction of gradients over devices."""
        return self.contract.recipe.precision.dtype("reduction", self.dtype)

    @property
    def master_dtype(self) -> str | None:
        """Dtype of the master copy that the optimizer updates; None where it updates the parameters themselves."""
        declared = self.contract.recipe.precision.master
        return "float64" if declared and self.dtype == "float64" else declared

    # What the optimizer keeps.

    @property
    def zero_slots(self) -> tuple[str, ...]:
        """The slots of every parameter that have its shape and start at zero."""
        has_moments = self.contract.recipe.optimizer in ("adamw", "lamb")
        return ("first_moment", "second_moment") if has_moments else ("momentum",)

    @property
    def slot_names(self) -> tuple[str, ...]:
        """All slots of every parameter, the master copy among them if there is one."""
        return (*self.zero_slots, *(("master",) if self.master_dtype else ()))

    def weight_decay(self, name: str) -> Any:
        """Of a parameter: none, where the recipe has a group of its own for biases and scales."""
        recipe = self.contract.recipe
        return recipe.weight_decay if recipe.decays == "all" or is_weight(name) else 0.0

    # Where things lie.

    def placements(self, name: str) -> Placements:
        """Placements of a stored parameter."""
        return {}

    def positions(self, name: str) -> Positions:
        """Stored order of a parameter or an observation where it is not the canonical one (see `Reordered`)."""
        return {}

    def is_learned(self, name: str) -> bool:
        """Whether the loss depends on a parameter, so that it has a gradient at all."""
        return True

    def gradient_placements(self, name: str) -> Placements:
        """Placements of the gradient of a parameter after its reduction: for clipping and reporting."""
        return self.placements(name)

    def gradient_positions(self, name: str) -> Positions:
        return self.positions(name)

    def slot_placements(self, name: str) -> Placements:
        """Placements of the optimizer slots of a parameter."""
        return self.placements(name)

    def slot_positions(self, name: str) -> Positions:
        return self.positions(name)

    def slot_axes(self, name: str) -> tuple[str, ...]:
        """The axes that shard the optimizer slots of a parameter."""
        placements = self.slot_placements(name)
        sharded = (axis for axis in self.mesh.axes if sharded_dim(placements.get(axis, Replicate())) is not None)
        return tuple(axis for axis in sharded if self.mesh.size(axis) > 1)

    def row_placements(self) -> Placements:
        """Placements of rows and their tokens: of the batch, and of every observation that has rows."""
        return dict.fromkeys(self.row_axes, Shard(0)) | dict.fromkeys(self.token_axes, Shard(1))

    def batch_placements(self, key: str) -> Placements:
        """Placements of a key of the batch; seeds are per row and not sharded by token."""
        return dict.fromkeys(self.row_axes, Shard(0)) if key == "seeds" else self.row_placements()

    def batch_positions(self, key: str) -> Positions:
        """Order in which the elements of a key of the batch arrive, -1 for padding, where that is not canonical."""
        return {}

    @cached_property
    def batch_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the keys of a whole batch."""
        return dict(self.contract.batch_shapes)

    @property
    def row_length(self) -> int:
        """Tokens of a row of the batch; 1 where a row is one token."""
        shape = self.batch_shapes["mask"]
        return shape[1] if len(shape) > 1 else 1

    # Floating-point inputs: the loss has a gradient with respect to them.

    @property
    def real_inputs(self) -> tuple[str, ...]:
        """Keys of the batch with respect to which the loss is differentiated."""
        return real_inputs(self.contract.model)

    def input_placements(self, key: str) -> Placements:
        """Placements of the gradient with respect to a key of the batch: those of the key."""
        return self.batch_placements(key)

    def input_positions(self, key: str) -> Positions:
        """Order of its elements, -1 where a dim was filled up to divide over its axis."""
        positions = dict(self.batch_positions(key))
        for axis, placement in self.input_placements(key).items():
            if (dim := sharded_dim(placement)) is not None and dim not in positions:
                size = self.batch_shapes[key][dim]
                if missing := -size % self.mesh.size(axis):
                    positions[dim] = np.pad(np.arange(size), (0, missing), constant_values=-1)
        return positions

    # Observations that have rows.

    def observation_placements(self, name: str) -> Placements:
        if name.startswith(OF_INPUTS):
            return self.input_placements(name.removeprefix(OF_INPUTS))
        return self.output_placements().get(name, self.row_placements())

    def observation_positions(self, name: str) -> Positions:
        if name.startswith(OF_INPUTS):
            return self.input_positions(name.removeprefix(OF_INPUTS))
        return self.positions(name)

    def output_placements(self) -> Mapping[str, Placements]:
        """The observations that are sharded by more than rows."""
        return {}

    def arranged_shape(self, name: str, positions: Positions) -> tuple[int, ...]:
        """Shape of the whole of a parameter in the order in which it is stored, padding and repeats included."""
        return tuple(len(positions.get(dim, range(n))) for dim, n in enumerate(self.contract.shapes[name]))

    def layout_of_others(self) -> dict[str, Placements]:
        """What is declared of how all but the parameters is stored: slots, gradients, batch."""
        slots = [(slot, name) for slot in self.slot_names for name in self.contract.shapes]
        layout = {f"optimizer/{slot}/{name}": self.slot_placements(name) for slot, name in slots}
        layout |= {f"gradients/{name}": self.gradient_placements(name) for name in self.contract.shapes}
        return layout | {f"batch/{key}": self.batch_placements(key) for key in self.batch_shapes}

    # Gradients.

    @property
    def gradient_axes(self) -> tuple[str, ...]:
        """The axes over which gradients are summed when all slices are done."""
        return self.data_axes

    def axes_of_gradient(self, name: str) -> tuple[str, ...]:
        """Those over which the gradient of one parameter is summed."""
        return self.gradient_axes

    def is_partial(self, name: str) -> bool:
        """Whether a replicated parameter is applied to other activations on each device: its gradient is partial."""
        return False

    def local_elements(self, name: str) -> int:
        """Elements of the gradient of a parameter that one device keeps."""
        placements, positions = self.gradient_placements(name), self.gradient_positions(name)
        sharded = tuple(axis for axis, placement in placements.items() if sharded_dim(placement) is not None)
        return math.prod(self.arranged_shape(name, positions)) // self.size(sharded)

    # Tokens.

    @property
    def slice_rows(self) -> int:
        """Rows of one slice of the batch on one device, on average."""
        return self.contract.batch_shapes["mask"][0] // self.size(self.row_axes) // self.contract.recipe.accumulation

    @property
    def slice_tokens(self) -> int:
        """Tokens (rows, where a row is one token) of a slice that one device computes with, valid or not."""
        return self.slice_rows * self.row_length // self.size(self.token_axes)

    def require_supported(self) -> None:
        """Raise Unsupported for a contract that this mesh cannot carry."""

    def require_whole_rows(self, rows: int) -> None:
        """Raise Unsupported for a batch that does not divide into its slices on every device."""
        parts, recipe = self.size(self.row_axes), self.contract.recipe
        if rows % (parts * (sum(recipe.shares) or recipe.accumulation)):
            kind = f"slices of {recipe.shares} shares" if recipe.shares else f"{recipe.accumulation} equal slices"
            raise Unsupported(
                f"A batch of {rows} rows cannot be divided over {parts} devices of the data axis "
                f"and into {kind} on each."
            )

    def slice_sizes(self, rows: int) -> list[int]:
        """Rows of each slice of a device's part of a batch, which has so many rows."""
        shares = self.contract.recipe.shares or (1,) * self.contract.recipe.accumulation
        return [share * rows // sum(shares) for share in shares]

    @property
    def device_slices(self) -> list[int]:
        """Rows of a device in each slice of its batch."""
        return self.slice_sizes(self.contract.batch_shapes["mask"][0] // self.size(self.row_axes))

    def size(self, axes: tuple[str, ...]) -> int:
        """How many parts the axes make together."""
        return math.prod(self.mesh.size(axis) for axis in axes)


class ShardedTraining(StateLayout, Implementation):
    """A training step whose parameters and rows are sharded over mesh axes."""


def first_copies(stored: np.ndarray) -> np.ndarray:
    """1 where an element is stored for the first time, 0 where it is padding or a repeat."""
    _, first = np.unique(stored, return_index=True)
    return np.isin(np.arange(stored.size), first) & (stored >= 0)


def arrange(canonical: np.ndarray, positions: Positions) -> np.ndarray:
    """Canonical array -> as it is stored: permuted or repeated along some dims, zero where padded."""
    for dim, stored in positions.items():
        real = np.expand_dims(stored >= 0, tuple(d for d in range(canonical.ndim) if d != dim))
        canonical = np.where(real, canonical.take(np.maximum(stored, 0), axis=dim), 0)
    return canonical


def canonical(stored: Array, positions: Positions) -> Array:
    """The inverse of `arrange`, of NumPy or JAX arrays: padding is dropped, of repeated elements the first is taken."""
    for dim, order in positions.items():
        elements, first = np.unique(order, return_index=True)
        stored = stored.take(first[elements >= 0], axis=dim)
    return stored
