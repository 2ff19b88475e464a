"""JAX: residuals of the per-device program as it is traced, buffers of the compiled one, seconds of small ones.

Nothing of the wide shape is ever made: it is traced and compiled from shapes alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from conformance.contract.contract import Contract
from conformance.contract.mesh import Mesh
from conformance.records.formatting import count
from suites.hybrid.full_size.compiled import packed_state
from suites.hybrid.full_size.programs import GPipe
from suites.memory.jax_manual.model import LanguageModel
from suites.memory.jax_manual.spilling import moved_to_host
from suites.memory.measure.figure import Figure
from suites.memory.measure.programs import ACCUMULATIONS, MESH, POLICIES, WIDER, measured, spilled_from

Compiler = Callable[[jax.stages.Lowered], jax.stages.Compiled]
REPEATS = 5


class NotDonating(LanguageModel):
    """The same program, whose new state has a memory of its own."""

    donated = ()


def compiled_here(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """For the devices of this process. Another compiler of lowered programs, that of a chip, may stand in its place."""
    options: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}  # the same bytes, sooner
    return lowered.compile(compiler_options=options)


def figures(compiler: Compiler = compiled_here, level: str = "partitioned") -> Iterator[Figure]:
    """All figures of JAX; `level` says what buffers of programs made by this compiler are figures of."""
    for shape in ("small", "wide"):
        for policy in POLICIES:
            yield from _checkpointing(shape, policy)
        yield from _spill(shape)
        for slices in ACCUMULATIONS:
            yield from _accumulation(shape, slices)
        for kind, maker in (("donated", LanguageModel), ("not donated", NotDonating)):
            yield from _donation(shape, kind, maker, compiler, level)
    for tensor, pipeline in WIDER:
        yield from _axes(tensor, pipeline, compiler, level)


def _figure(group: str, policy: str, shape: str, kind: str, size: int, **more: Any) -> Figure:
    fields = {"framework": "jax", "mesh": MESH, "level": "program", **more}
    return Figure(group=group, policy=policy, shape=shape, kind=kind, bytes=size, **fields)


def _checkpointing(shape: str, policy: str) -> Iterator[Figure]:
    made = _settled(LanguageModel, measured(shape, recompute=policy), MESH)
    seconds = _seconds(made) if shape == "small" else None
    yield _figure("checkpointing", policy, shape, "saved residuals", residual_bytes(made), seconds=seconds)


def _spill(shape: str) -> Iterator[Figure]:
    threshold = spilled_from(shape)
    made = _settled(LanguageModel, measured(shape, spill=threshold), MESH)
    moved = moved_to_host(made.program, state_shapes(made), _batch(made))
    policy = f"spilled from {threshold // 1024} KiB"
    seconds = _seconds(made) if shape == "small" else None
    yield _figure("spill", policy, shape, "moved to host", sum(map(_bytes, moved)), seconds=seconds)


def _accumulation(shape: str, slices: int) -> Iterator[Figure]:
    made = _settled(LanguageModel, measured(shape, accumulation=slices), MESH)
    seconds, policy = _seconds(made) if shape == "small" else None, count(slices, "slice")
    yield _figure("accumulation", policy, shape, "saved residuals", residual_bytes(made), seconds=seconds)


def _donation(shape: str, policy: str, maker: type[LanguageModel], compiler: Compiler, level: str) -> Iterator[Figure]:
    made = _settled(maker, measured(shape), MESH)
    memory: Any = compiler(made.program.lower(state_shapes(made), _batch(made))).memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    sizes = {"argument": memory.argument_size_in_bytes, "output": memory.output_size_in_bytes}
    sizes |= {"alias": memory.alias_size_in_bytes, "argument and output": held}
    for kind, size in sizes.items():
        yield _figure("donation", policy, shape, kind, size, level=level)


def _axes(tensor: int, pipeline: int, compiler: Compiler, level: str) -> Iterator[Figure]:
    """Stages run in a loop over ticks, so the temporaries of the CPU's program count."""
    mesh = f"tensor={tensor},pipeline={pipeline}"
    made = _settled(GPipe, measured("wide", microbatches=8), mesh)
    memory: Any = compiler(made.program.lower(packed_state(made), _batch(made))).memory_analysis()
    under_scan = "cpu, under scan" if compiler is compiled_here else level
    yield _figure("axes", mesh, "wide", "argument", memory.argument_size_in_bytes, mesh=mesh, level=level)
    yield _figure("axes", mesh, "wide", "temporaries", memory.temp_size_in_bytes, mesh=mesh, level=under_scan)


def _settled(maker: Any, contract: Contract, mesh: str) -> Any:
    """An implementation on the first devices of this process, without any parameter."""
    logical = Mesh.parse(mesh)
    made = maker(contract, logical, "float32")
    devices = np.array(jax.devices()[: logical.devices]).reshape(logical.shape)
    made.settle(jax.sharding.Mesh(devices, logical.axes))
    return made


def _batch(made: Any) -> dict[str, np.ndarray]:
    return made.contract.batches(0, 1)[0]


def state_shapes(made: Any) -> dict[str, Any]:
    """Shapes and shardings of the state: nothing is made."""
    specs = made.state_specs()

    def of(name: str, dtype: str, spec: PartitionSpec, positions: Any) -> jax.ShapeDtypeStruct:
        shape = made.arranged_shape(name, positions)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(made.device_mesh, spec))

    parameters = {
        name: of(name, made.stored_dtype, spec, made.positions(name)) for name, spec in specs["parameters"].items()
    }
    slots = {
        slot: {name: of(name, made.master, spec, made.slot_positions(name)) for name, spec in named.items()}
        for slot, named in specs["optimizer"].items()
    }
    count = jax.ShapeDtypeStruct((), "int32", sharding=NamedSharding(made.device_mesh, specs["count"]))
    return {"parameters": parameters, "optimizer": slots, "count": count}


def residual_bytes(made: Any) -> int:
    """Bytes that the forward pass of one slice leaves for its backward pass on one device, parameters left out.

    They are the leaves of the function that `jax.vjp` returns, inside `shard_map`: each array counts once.
    """
    sizes: list[int] = []

    def on_device(parameters: dict, batch: dict) -> jax.Array:
        loss, pull = jax.vjp(lambda p: made.forward(made.to_compute(p), batch)[0], parameters)
        stays = {id(p) for p in parameters.values()}
        kept = {id(leaf): leaf for leaf in jax.tree.leaves(pull) if id(leaf) not in stays}
        sizes.append(sum(map(_bytes, kept.values())))
        return loss

    specs = {key: made.spec(made.batch_placements(key)) for key in _batch(made)}
    outer = jax.shard_map(
        on_device,
        mesh=made.device_mesh,
        in_specs=(made.parameter_specs(), specs),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    slices = made.contract.recipe.accumulation
    rows = {key: value[: len(value) // slices] for key, value in _batch(made).items()}
    jax.eval_shape(outer, state_shapes(made)["parameters"], rows)
    return sizes[0]


def _bytes(aval: Any) -> int:
    return math.prod(aval.shape) * jnp.dtype(aval.dtype).itemsize


def _seconds(made: Any) -> float:
    """CPU seconds of the shortest of several steps, of all emulated devices together; the first one compiles."""
    state, batch = made.laid_out(made.state(made.contract.parameters(0))), _batch(made)
    taken = []
    for _ in range(REPEATS + 1):
        started = time.process_time()
        state, seen = made.program(state, batch)
        jax.block_until_ready((state, seen))
        taken.append(time.process_time() - started)
    return min(taken[1:])
