"""A right data-parallel mean of many terms in float64, by any seed; run as a script, it prints the seeds that fail."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

import conformance


def arrays(seed, rows):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(12, 24))}, {"x": rng.normal(size=(rows, 16, 12))}


def squares(w, x):
    return jnp.mean((x @ w) ** 2)


def tanhs(w, x):
    return jnp.mean(jnp.tanh(x @ w) ** 2)


def reference_of_squares(parameters, batch):
    return squares(parameters["w"], batch["x"])


def reference_of_tanhs(parameters, batch):
    return tanhs(parameters["w"], batch["x"])


@cache
def compiled(function, mesh):
    def local(p, x):
        return lax.pmean(function(p["w"], x), "data")

    sharded = jax.shard_map(local, mesh=mesh, in_specs=({"w": P()}, P("data")), out_specs=P())
    return jax.jit(jax.value_and_grad(sharded))


def of_squares(parameters, batch, mesh):
    loss, gradients = compiled(squares, mesh)(parameters, batch["x"])
    return {"loss": loss, "gradients/w": gradients["w"]}


def of_tanhs(parameters, batch, mesh):
    loss, gradients = compiled(tanhs, mesh)(parameters, batch["x"])
    return {"loss": loss, "gradients/w": gradients["w"]}


CASES = (
    (reference_of_tanhs, of_tanhs, 4, "data=4", range(10)),
    (reference_of_squares, of_squares, 2, "data=2", range(14)),
)

if __name__ == "__main__":
    for single, sharded, rows, mesh, seeds in CASES:
        for seed in seeds:
            parameters, batch = arrays(seed, rows)
            judgement = conformance.check(
                reference=single, candidate=sharded, parameters=parameters, batch=batch, mesh=mesh
            )
            print(f"\x1e{mesh} seed {seed} {judgement.result.verdict}\n{judgement}", flush=True)
