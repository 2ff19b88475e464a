"""JAX: one process, many host devices; a case takes the sub-mesh that it needs."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from conformance.cases.case import Case, Mutation
from conformance.cases.raised import said
from conformance.contract.contract import Arrays
from conformance.contract.implementation import Implementation, Packed, Reordered, Unsupported
from conformance.contract.mesh import Mesh
from conformance.contract.placements import is_held, local_index, partial_axes
from conformance.evidence.blocks import merged
from conformance.evidence.evidence import Block, Index, Observed
from conformance.evidence.intermediates import Intermediates
from conformance.evidence.partitioned import Partitioned
from conformance.trace import jax_reordered
from conformance.trace.jax_flops import product_flops
from conformance.trace.jax_operations import operations
from conformance.trace.jax_places import Frame, walk
from conformance.trace.jax_trace import Program
from conformance.workers import jax_profile
from conformance.workers.buffers import Buffer
from conformance.workers.compiled import unkept
from conformance.workers.jobs import RankOperation, ReferenceValuesJob, Task, ValuesJob, is_planted
from conformance.workers.observe import Unreadable, arranged, plain, widened
from conformance.workers.partitioned import partitioned, text_of
from conformance.workers.platform import PROGRAMS_KEPT, Platform, Step, TracedStep, Work

ONE_DEVICE = Mesh.parse("data=1")
_LOG = logging.getLogger("shardproof.workers")


class JaxPlatform(Platform):
    compiles = True
    traces = True
    allows_smaller_mesh = True

    def __init__(self) -> None:
        super().__init__()
        jax_reordered.register()
        self.mesh_devices = jax.devices()
        self.is_leader = jax.process_index() == 0
        self._programs: OrderedDict[tuple[Step, Mesh], Program] = OrderedDict()

    def rank_of(self, case: Case) -> dict[int, int]:
        """JAX's number of a device -> the rank that sits there."""
        return {self.mesh_devices[device].id: rank for rank, device in enumerate(case.mesh.device_order)}

    def device_mesh(self, case: Case) -> jax.sharding.Mesh:
        mesh = case.mesh
        devices = np.array([self.mesh_devices[device] for device in mesh.device_order]).reshape(mesh.shape)
        return jax.sharding.Mesh(devices, mesh.axes, axis_types=(jax.sharding.AxisType.Auto,) * len(mesh.axes))

    def ranks_here(self, case: Case) -> list[int]:
        """Those whose devices this process has: all, unless there are several processes."""
        own = jax.process_index()
        return [
            rank for rank, device in enumerate(case.mesh.device_order) if self.mesh_devices[device].process_index == own
        ]

    def compiling(self, job: Task) -> AbstractContextManager[None]:
        """What has a bug planted in it and what shows its values is compiled once, and longer to write than to make."""
        return unkept() if isinstance(job, (ValuesJob, ReferenceValuesJob)) or is_planted(job) else nullcontext()

    def barrier(self) -> None:
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("barrier")

    @contextmanager
    def shared_folder(self) -> Iterator[Path]:
        """In a world it is for those files that every process sees: it is not known that there is such a place."""
        if jax.process_count() > 1:
            raise Unsupported("Files are not shared by the processes of a world: nothing is saved there.")
        with super().shared_folder() as folder:
            yield folder

    def wait(self, value: Any) -> None:
        jax.block_until_ready(value)

    def observed(self, value: Any, case: Case) -> Observed:
        if isinstance(value, Reordered):
            return arranged(self.observed(value.value, case), value)
        if isinstance(value, Packed):
            return _unpacked(value, case, self.rank_of(case))
        if not isinstance(value, jax.Array):
            return replace(plain(value, self.ranks_here(case)), owed_by=tuple(range(case.mesh.devices)))
        blocks, stored = [], {}
        for rank, shard in _shards(value, self.rank_of(case)):
            local = np.array(shard.data)
            stored[rank] = local.nbytes
            blocks.append(Block(ranks=(rank,), index=_index(shard, value.shape), value=widened(local)))
        return Observed(shape=tuple(value.shape), dtype=str(value.dtype), blocks=merged(blocks), stored_bytes=stored)

    def buffers(self, value: Any, case: Case) -> Iterator[Buffer]:
        for path, leaf in jax.tree_util.tree_flatten_with_path(value, is_leaf=_is_stored)[0]:
            array = _stored(leaf)
            if isinstance(array, jax.Array) and not array.is_deleted():
                yield from _buffers(_spoken(path), array, self.rank_of(case))

    def watched(self, step: Step, state: Any, batch: Arrays, case: Case) -> tuple[Any, TracedStep]:
        return None, self._traced(step, state, batch, case)

    def _traced(self, step: Step, state: Any, batch: Arrays, case: Case) -> TracedStep:
        """A step that runs need not be traceable: it may look at values, shardings and meshes, and leave JAX."""
        try:
            program = Program(step, state, batch, case.mesh)
            arithmetic = program.lower_precision() if case.dtype == "float64" else program.arithmetic()
            traffic = program.traffic()
            text, made = (None, None) if traffic is not None else self._partitioned(program, step, state, batch)
            return TracedStep(
                traffic=traffic,
                partitioned=made,
                flops=program.flops(),
                division=program.divisions(step, state, batch, text),
                arithmetic=arithmetic,
                sites=program.sites(),
                unseen=program.unseen,
            )
        except Exception as failure:
            return TracedStep(unwatched=f"it cannot be traced as a whole ({said(failure)})")

    def _partitioned(
        self, program: Program, step: Step, state: Any, batch: Arrays
    ) -> tuple[str | None, Partitioned | None]:
        """The program behind the partitioner, as text and as collectives, for an implementation that declares a bound.

        None for any other, and where it cannot be compiled or read.
        """
        owner = getattr(step, "__self__", None)
        if program.mesh.devices == 1 or not isinstance(owner, Implementation) or owner.declare().at_most is None:
            return None, None
        try:
            lowered = jax.jit(step).lower(state, batch)
            text = text_of(lowered)
            return text.hlo, partitioned(lowered, text, program.mesh)
        except Exception as failure:
            program.unseen["collectives"] = f"what the partitioner made cannot be read ({said(failure)})"
            return None, None

    def peak_bytes(self, step: Step, state: Any, batch: Arrays) -> int | None:
        """Arguments, results and temporaries of one device, less what they share; the process's own peak counts all
        emulated devices at once."""
        try:
            memory = jax.jit(step).lower(state, batch).compile().memory_analysis()
        except Exception:  # a step that cannot be traced has no compiled program
            _LOG.debug("The step does not compile as a whole: its peak is not known.", exc_info=True)
            return None
        if memory is None:
            return None
        held = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        value: int | None = held - memory.alias_size_in_bytes
        return value

    def profiled(self, step: Step, state: Any, batch: Arrays, case: Case) -> tuple[RankOperation, ...]:
        return jax_profile.operations(lambda: step(state, batch), case.mesh)

    def values(self, step: Step, state: Any, batch: Arrays, case: Case) -> Intermediates | None:
        return _intermediates(partial(self._program, step, state, batch, case), state, batch, case.mutation)

    def reference_values(self, step: Step, state: Any, batch: Arrays) -> Intermediates | None:
        return _intermediates(partial(Program, step, state, batch, ONE_DEVICE), state, batch, None)

    def mutated(self, step: Step, state: Any, batch: Arrays, case: Case) -> Step:
        return self._program(step, state, batch, case).mutated(case.mutation)

    def _program(self, step: Step, state: Any, batch: Arrays, case: Case) -> Program:
        """The traced step; the mutants of one are told from each other after tracing."""
        key = step, case.mesh  # methods of one implementation object are equal
        if key not in self._programs:
            self._programs[key] = Program(step, state, batch, case.mesh)
        self._programs.move_to_end(key)
        while len(self._programs) > PROGRAMS_KEPT:
            self._programs.popitem(last=False)
        return self._programs[key]

    def forget(self) -> None:
        super().forget()
        self._programs.clear()


def _is_stored(value: Any) -> bool:
    return isinstance(value, (Reordered, Packed))


def _stored(value: Any) -> Any:
    """The array behind what was collected."""
    return _stored(value.value) if _is_stored(value) else value


def _spoken(path: tuple[Any, ...]) -> str:
    """`['optimizer']['w']`; of a flat mapping just the name."""
    name = getattr(path[0], "key", None) if len(path) == 1 else None
    return name if isinstance(name, str) else jax.tree_util.keystr(path)


def _buffers(path: str, array: jax.Array, rank_of: Mapping[int, int]) -> Iterator[Buffer]:
    """Its shards, one for each rank; what lies outside the mesh is no rank's."""
    given = array.is_deleted
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    for shard in array.addressable_shards:
        data = shard.data
        if shard.device.id in rank_of:
            yield Buffer(
                path=path,
                rank=rank_of[shard.device.id],
                memory=data.unsafe_buffer_pointer(),
                bytes=data.nbytes,
                read=partial(np.array, data),
                given=given,
            )


def _intermediates(
    program: Callable[[], Program], state: Any, batch: Arrays, mutation: Mutation | None
) -> Intermediates | None:
    try:
        return program().intermediates(state, batch, mutation)
    except Exception:  # a step that cannot be traced shows none
        _LOG.debug("The values inside the step are not known.", exc_info=True)
        return None


def work(step: Step, state: Any, batch: Arrays) -> Work:
    """What a step of one device calculates; None where it cannot be traced."""
    try:
        places = list(walk(jax.make_jaxpr(step)(state, batch).jaxpr, Frame(), every_branch=False))
        return (
            sum(place.frame.trips * product_flops(place.eqn) for place in places),
            sum(place.frame.trips * operations(place.eqn) for place in places),
        )
    except Exception:
        _LOG.debug("The reference's step cannot be traced: its work is not known.", exc_info=True)
        return None, None


def _shards(value: jax.Array, rank_of: Mapping[int, int]) -> Iterator[tuple[int, Any]]:
    for shard in value.addressable_shards:
        if shard.device.id not in rank_of:
            raise Unreadable(f"it lies on device {shard.device.id}, which is not in the mesh")
        yield rank_of[shard.device.id], shard


def _unpacked(packed: Packed, case: Case, rank_of: Mapping[int, int]) -> Observed:
    """The blocks of one tensor, cut out of the vectors of those devices that hold it."""
    blocks, stored = [], {}
    for rank, shard in _shards(packed.value, rank_of):
        if not is_held(packed.placements, case.mesh, rank):
            continue
        vectors = np.asarray(shard.data).reshape(-1, packed.value.shape[-1])
        index = local_index(packed.shape, packed.placements, case.mesh, rank)
        wanted = tuple(part.stop - part.start for part in index)
        local = vectors[:, packed.start : packed.start + packed.size]
        if local.size != math.prod(wanted):
            raise Unreadable(f"rank {rank} has {local.size} elements of it; its placements give it {wanted}")
        local = local.reshape(wanted).copy()
        stored[rank] = local.nbytes
        partial = partial_axes(packed.placements)
        blocks.append(Block(ranks=(rank,), index=index, value=widened(local), partial=partial))
    return Observed(shape=packed.shape, dtype=str(packed.value.dtype), blocks=merged(blocks), stored_bytes=stored)


def _index(shard: Any, shape: tuple[int, ...]) -> Index:
    return tuple(slice(*part.indices(size)[:2]) for part, size in zip(shard.index, shape, strict=True))


def to_numpy(value: Any) -> np.ndarray:
    return np.asarray(value).astype(np.float64)
