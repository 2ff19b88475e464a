"""`python -m suites.collectives.measure.in_jax RANKS`: timings as JSON, of so many host devices of this process."""

from __future__ import annotations

import os
import sys

RANKS = int(sys.argv[1])
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={RANKS}"

import jax  # noqa: E402 - the number of devices is fixed when it starts
import jax.numpy as jnp  # noqa: E402
from jax.sharding import PartitionSpec  # noqa: E402

from suites.collectives.jax_manual.executor import carried_out  # noqa: E402
from suites.collectives.measure.timings import NATIVE, OPERAND_BYTES, Timing, schedules, timed, written  # noqa: E402
from suites.collectives.schedule import Schedule  # noqa: E402


def main() -> None:
    mesh = jax.make_mesh((RANKS,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    timings = []
    for size in OPERAND_BYTES:
        programs = {name: _by_schedule(plan) for name, plan in schedules(RANKS).items()}
        programs[NATIVE] = lambda x: jax.lax.psum(x, "x")
        operand = jax.device_put(jnp.ones((RANKS, size // 4), jnp.float32), jax.NamedSharding(mesh, PartitionSpec("x")))
        for name, program in programs.items():
            timings.append(_timing(mesh, name, program, operand, size))
    print(written(timings))


def _by_schedule(plan: Schedule):
    def program(x: jax.Array) -> jax.Array:
        flat = x.reshape(-1)
        padded = jnp.pad(flat, (0, -flat.size % plan.blocks)).reshape(plan.blocks, -1)
        return carried_out(plan, padded, "x").reshape(-1)[: flat.size].reshape(x.shape)

    return program


def _timing(mesh: jax.sharding.Mesh, name: str, program, operand: jax.Array, size: int) -> Timing:
    spec = PartitionSpec("x")
    step = jax.jit(jax.shard_map(program, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
    median, shortest = timed(lambda: jax.block_until_ready(step(operand)))
    return Timing(
        framework="jax", ranks=RANKS, algorithm=name, operand_bytes=size, seconds=median, shortest_seconds=shortest
    )


if __name__ == "__main__":
    main()
