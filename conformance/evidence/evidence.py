"""Evidence: what a case really computed, rank by rank, as plain numpy that any process can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from conformance.contract.implementation import Declarations, Traffic
from conformance.contract.mesh import Mesh
from conformance.contract.timeline import Timeline
from conformance.evidence.arithmetic import Operation
from conformance.evidence.partitioned import Partitioned

Index = tuple[slice | np.ndarray, ...]  # per dim, the canonical elements that a block holds


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of a tensor and the ranks that hold just these bits of it.

    `value` has the observed dtype, except that bfloat16 and float8 travel as float32 (which holds them exactly).
    `partial` names the mesh axes over which the block is still a partial sum.
    """

    ranks: tuple[int, ...]
    index: Index
    value: np.ndarray
    partial: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A tensor as the ranks hold it: canonical shape, dtype name, and its blocks.

    `owed_by` are the ranks to which its placements give at least one element, as far as a framework cannot show it by
    the blocks themselves (in JAX an array has all its shards; in torch each rank hands its own copy over, or not).
    """

    shape: tuple[int, ...]
    dtype: str
    blocks: tuple[Block, ...]
    stored_bytes: Mapping[int, int] = field(default_factory=dict)  # rank -> bytes it really stores, padding included
    stored_shape: tuple[int, ...] | None = None  # global shape as stored, where that is Reordered
    owed_by: tuple[int, ...] = ()


Observations = dict[str, Observed]


@dataclass(frozen=True, kw_only=True)
class Division:
    """How the arithmetic of one step lies along one mesh axis, in floating-point operations per rank.

    alike         done by all ranks of the axis on the same values
    own           done on values that not all ranks of the axis have
    own_products  the matrix products among the latter
    own_tables    lookups in a table of which not all ranks of the axis have the same
    skipped_products  the matrix products that a rank makes or not by its place along the axis
    alone         one device does all of it, before anything lies on the mesh
    """

    alike: int
    own: int
    own_products: int
    own_tables: int = 0
    skipped_products: int = 0
    alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Computed:
    """What one rank computed in a step, one element per result: a digest of its bits, its operations, is it a product.

    The digest counts how often it was seen, so that two ranks with the same set computed the same equally often.
    `tables` are the digests of what lookups were made in.
    """

    digests: np.ndarray
    operations: np.ndarray
    products: np.ndarray
    tables: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A tensor of the state with the bits of a parameter, beside that parameter itself. `bytes`: rank -> its bytes."""

    path: str  # where in the state it is, `['spare']['w']`
    parameter: str
    bytes: Mapping[int, int]


@dataclass(frozen=True, kw_only=True)
class StateBytes:
    """What the whole state of a training step takes, collected or not; each memory counts once.

    held     rank -> bytes of the state after the last step
    before   rank -> bytes of the state that the first step was given
    reused   rank -> those of them whose memory the first step took over
    copies   parameters that lie in the state more often than they are collected
    """

    held: Mapping[int, int]
    before: Mapping[int, int]
    reused: Mapping[int, int]
    copies: tuple[Copy, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ExtraRun:
    """One extra run for a relation of the check `relations`.

    label         what was changed: "reversed devices", "data=4,fsdp=2", "shard.npz truncated"
    observations  what was seen, on the ranks of `mesh` (empty where it was refused)
    refused       what the implementation said instead
    """

    label: str
    mesh: Mesh
    observations: Observations
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that one case run left behind.

    initial      collected right after `place`
    steps        per step: the observations, then what `collect` gave (parameters after the step, optimizer slots)
    broke_off    these are the steps that were finished before the case broke off; there are no further runs
    repeated     the first step again, from a second `place` (None when determinism was not asked for)
    responses    batch key -> did any observation change when that key changed (empty when not asked for)
    devices      device ids that hold some block of some observation
    batch        key of the first batch -> what the ranks hold of it, where the step shows it
    state        bytes of the state, None where nothing in it is known to be a tensor
    traffic      collectives of the traced step, None where they are not known
    partitioned  where a partitioner chooses them: what it made of the step
    division     mesh axis -> how the arithmetic lies along it, where the program itself shows it (JAX)
    computed     rank -> what it computed in one step, where that shows it (torch)
    flops        matrix-product floating point operations per rank in one step, None where they cannot be counted
    unwatched    why the traced step was not seen, though it was asked for: the program cannot be traced, say
    unseen       part of a watched step -> why it is not known nevertheless; parts are `work`, `arithmetic` and
                 `collectives`
    arithmetic   in float64 what rounds to fewer bits, else sums of gradients and statistics in fewer than 32 bits; None
                 where the program cannot be traced
    related      relation -> the extra runs that it asked for
    declined     relation -> why the implementation cannot be held to it (it writes no checkpoints, say)
    timeline     what each rank plans to do when, where the implementation has such a plan
    seconds      phase (place, compile, step, collect, trace, relations) -> seconds
    """

    initial: Observations
    steps: tuple[Observations, ...]
    declarations: Declarations
    repeated: Observations | None = None
    input_sensitivity: Mapping[str, bool] = field(default_factory=dict)
    devices: tuple[int, ...] = ()
    batch: Observations = field(default_factory=dict)
    state: StateBytes | None = None
    traffic: tuple[Traffic, ...] | None = None
    partitioned: Partitioned | None = None
    division: Mapping[str, Division] = field(default_factory=dict)
    computed: Mapping[int, Computed] = field(default_factory=dict)
    flops: Mapping[int, int] | None = None
    unwatched: str = ""
    unseen: Mapping[str, str] = field(default_factory=dict)
    arithmetic: tuple[Operation, ...] | None = None
    related: Mapping[str, tuple[ExtraRun, ...]] = field(default_factory=dict)
    unsupported_relations: Mapping[str, str] = field(default_factory=dict)
    timeline: Timeline | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    broke_off: bool = False

    def why_unseen(self, part: str) -> str:
        """Why a part of the step is not known, the end of a sentence; empty where it is."""
        return f"the step was not watched, because {self.unwatched}" if self.unwatched else self.unseen.get(part, "")


@dataclass(frozen=True, kw_only=True)
class ReferenceResult:
    """What the single-device reference says, and how far rounding alone can move it.

    oracle       per step: observable -> float64 array, in data-flow order (forward, then backward, then the update);
                 `updates/<parameter>`, the change since the start, stands in place of `parameters/<parameter>`
    noise        the same keys: elementwise largest deviation from the oracle of single-device runs in the dtype of the
                 case, on inputs perturbed by rounding; in float64 these runs are evaluated in stochastic arithmetic,
                 and in narrower dtypes one more is on the inputs as given
    initial      canonical parameters before the first step
    decided      per step: batch key -> int32, the decisions that are replayed; empty in float64
    flops        matrix-product operations of one reference step
    operations   those and every other calculation, as in Division
    unmoved      `loss`, where no change of the first batch moves it
    idle         keys of the first batch that change nothing, given the other values that candidates are given
    lower        what the float64 reference rounds to fewer bits; then the inputs are perturbed as in that dtype
    exact        observables of the first step that this does not reach: their noise is that of float64
    unevaluated  why the float64 members are not evaluated in stochastic arithmetic, but move the inputs alone
    """

    oracle: tuple[dict[str, np.ndarray], ...]
    noise: tuple[dict[str, np.ndarray], ...]
    initial: dict[str, np.ndarray]
    decisions: tuple[dict[str, np.ndarray], ...]
    flops: int | None = None
    operations: int | None = None
    unmoved: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    lower: tuple[Operation, ...] = ()
    exact: frozenset[str] = frozenset()
    unevaluated: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
