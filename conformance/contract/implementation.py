"""The implementation: a sharded program that claims to honour a contract. Three methods, in either framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from conformance.contract.alteration import Alteration
from conformance.contract.budget import Allowance
from conformance.contract.contract import Contract
from conformance.contract.errors import ShardproofError
from conformance.contract.mesh import Mesh
from conformance.contract.placements import Placements, read_placements
from conformance.contract.timeline import Timeline

Framework = Literal["jax", "torch"]
Phase = Literal["forward", "backward", "update"]  # of one training step; update: everything after the gradients
CollectiveKind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "permute", "broadcast", "reduce"]

FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)


class Unsupported(ShardproofError):  # noqa: N818 - a refusal, not an error
    """Raised by an implementation that refuses a contract, a mesh or a dtype; the message says why in one sentence."""


@dataclass(frozen=True, kw_only=True)
class Sharded:
    """What one torch rank holds of a global tensor: its local block and the placements per mesh axis.

    A rank that holds nothing of a tensor (see O in `conformance.contract.placements`) leaves its name out.

    `shape` is the global shape; blocks are those of `placements.local_index` (ceil-sized chunks, the last ones
    shorter). Placements may be written as text, `{"tensor": "S(0)"}`. Raises PlacementError for what is none.
    """

    local: Any
    placements: Placements
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "placements", read_placements(self.placements))


@dataclass(frozen=True, kw_only=True)
class Reordered:
    """A stored tensor whose elements along some dims are not in canonical order: padded, permuted or repeated.

    `index_map[dim][j]` is the canonical index of stored element j along dim, or -1 for padding. Fused projections,
    padded vocabularies, repeated key heads and zigzag sequences are all spoken this way.
    """

    value: Any  # jax.Array, DTensor, Sharded or Packed: the tensor as it is stored
    shape: tuple[int, ...]  # canonical shape
    index_map: Mapping[int, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A tensor whose blocks lie in longer vectors, one vector (or one for each of several rows) per device; JAX only.

    A program that is the same on all devices stores stages of different shapes so. Each shard of `value` is read as
    [rows, length], whatever its leading dims; the block of that device is [rows, start:start + size] reshaped to what
    the placements give it. `size` is the same on every device. Devices that the placements exclude hold other things.
    """

    value: Any  # jax.Array
    start: int
    size: int
    placements: Placements  # or text, as in `Sharded`
    shape: tuple[int, ...]  # global shape of the tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "placements", read_placements(self.placements))


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Some of the calls of a `Traffic`: those of one tensor and size.

    tensor  what is communicated, `gradients/<name>` or `parameters/<name>`, say; empty where that is not known
    bytes   payload of one call
    """

    tensor: str
    calls: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Collectives of one kind over one set of axes in one phase of one training step, per device.

    kind   what is communicated; a message from one rank to another is a permute
    axes   the mesh axes it runs over, in mesh order; axes of size 1 are left out
    phase  forward, backward or update (everything after the gradients of the loss)
    calls  how many operands were communicated (one fused call over n operands counts n)
    bytes  payload per device: the larger of operand and result, summed over the calls
    dtype  of what travels; None where it is not declared, and then not held
    at_most   calls and bytes are an upper bound: how much travels depends on the values (the tokens of an expert, say)
    portions  what it is made of, as far as that is known: findings name tensors by it, nothing is held to it
    """

    kind: CollectiveKind
    axes: tuple[str, ...]
    phase: Phase
    calls: int
    bytes: int
    dtype: str | None = None
    at_most: bool = False
    portions: tuple[Portion, ...] = field(default=(), compare=False)


@dataclass(frozen=True, kw_only=True)
class Declarations:
    """What an implementation says of itself; the engine holds it to that. None: nothing declared, nothing held.

    The layout is that of parameters by their names, which optimizer slots and gradients follow; what lies in another
    way has its own entry, `optimizer/<slot>/<name>` or `gradients/<name>`. A key of the batch has one if it is divided,
    `batch/<key>`. With `donates`, a step takes over the memory of the whole state that it is given. Placements may
    be written as text, as in `Sharded`. Where a partitioner chooses the collectives, `at_most` says what it may send in
    one step: it may choose another kind, and not send more.
    """

    layout: Mapping[str, Placements] | None = None
    traffic: tuple[Traffic, ...] | None = None
    at_most: tuple[Allowance, ...] | None = None
    reduction_dtype: str | None = None
    compute_axes: tuple[str, ...] = field(default=())  # axes over which the matrix products are divided
    donates: bool = False

    def __post_init__(self) -> None:
        if self.layout is not None:
            layout = {name: read_placements(placements) for name, placements in self.layout.items()}
            object.__setattr__(self, "layout", layout)


class Implementation(ABC):
    """Subclass this, in JAX or in torch; in torch the same object lives on every rank.

    The engine makes one instance per case, then calls `place` once, `step` once per batch and `collect` after each
    step. Raise `Unsupported` with one sentence for what you refuse.
    """

    framework: ClassVar[Framework]

    def __init__(self, contract: Contract, mesh: Mesh, dtype: str) -> None:
        self.contract = contract
        self.mesh = mesh  # the logical mesh; `place` receives the framework's own
        self.dtype = dtype

    @abstractmethod
    def place(self, parameters: dict[str, np.ndarray], mesh: Any) -> Any:
        """Canonical numpy parameters -> sharded state (parameters and optimizer).

        `mesh` is a `jax.sharding.Mesh` or a torch `DeviceMesh` with the axes of `self.mesh`.
        """

    @abstractmethod
    def step(self, state: Any, batch: dict[str, np.ndarray]) -> tuple[Any, Mapping[str, Any]]:
        """One training step on the global batch -> (new state, observations).

        Observations are flat: `loss`, `outputs/...`, `gradients/<parameter>` (accumulated, before clipping),
        `input_gradients/inputs` where the batch has real inputs (the gradient of the loss with respect to them),
        `metrics/grad_norm`, and if wanted `activations/...` and other `metrics/...`. Values are `jax.Array`, `DTensor`,
        `Sharded`, `Reordered`, `Packed`, or plain arrays and numbers that every rank must agree on. `batch/<key>` is
        what the ranks hold of the batch: the check `memory` counts its bytes, nothing else is asked of it.
        """

    @abstractmethod
    def collect(self, state: Any) -> Mapping[str, Any]:
        """State -> `parameters/<name>` and `optimizer/<slot>/<name>`, values as for observations.

        Slots: `momentum` for SGD, `first_moment` and `second_moment` for AdamW; the number of updates is
        `optimizer/count`.
        """

    # What an implementation may also have; the check `relations` asks for it where the contract does.

    def initialize(self, seed: int, mesh: Any) -> Any:
        """State with parameters of its own drawing. Law: their values depend on the seed and not on the mesh."""
        raise Unsupported("This implementation draws no parameters of its own.")

    def save(self, state: Any, folder: Path) -> None:
        """Write a checkpoint of the state into a new folder; in torch every rank calls this with the same folder."""
        raise Unsupported("This implementation writes no checkpoints.")

    def load(self, folder: Path, mesh: Any) -> Any:
        """A saved state, laid out on this mesh, whichever mesh it was saved from.

        Law: the bits of what was saved; a damaged or unfinished checkpoint is an error and never a state.
        """
        raise Unsupported("This implementation reads no checkpoints.")

    def timeline(self) -> Timeline | None:
        """What each rank plans to do when, drawn in the report; asked after `place`. None: there is no such plan."""
        return None

    # What `shardproof power` may change, besides collectives.

    def alterations(self) -> tuple[Alteration, ...]:
        """Changes to a plan of its own (a schedule, say), each of which must show; asked after `place`."""
        return ()

    def alter(self, operator: str, site: int) -> None:
        """Make one of them; asked before `place`."""
        raise Unsupported(f"This implementation has no alteration {operator}@{site}.")

    def declare(self) -> Declarations:
        """What this implementation communicates, stores and reduces in; the default declares nothing."""
        return Declarations()
