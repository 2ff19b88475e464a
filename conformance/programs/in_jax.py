"""Random programs in JAX: the reference on one device, the candidate as a `shard_map` with collectives of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from conformance.contract.mesh import Mesh
from conformance.programs.program import Program

Reduction = Callable[[Any], Any]  # of the terms of a device


def _wide(x: Any) -> Any:
    """Sums of narrow numbers are taken in float32, as everybody does."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def _sequential(t: Any) -> Any:
    return lax.scan(lambda total, term: (total + term, None), jnp.zeros_like(t[0]), t)[0]


def _chunked(t: Any) -> Any:
    size = next(size for size in (7, 5, 4, 3, 2, 1) if len(t) % size == 0)
    return t.reshape(size, -1, *t.shape[1:]).sum(1).sum(0)


SUMS: dict[str, Reduction] = {
    "pairwise": lambda t: t.sum(0),
    "sequential": _sequential,
    "chunked": _chunked,
    "reversed": lambda t: t[::-1].sum(0),
}


def _loss(program: Program, p: Any, x: Any, total: Reduction, most: Reduction, before: Reduction) -> Any:
    """The loss from local terms: `total` sums over all, `most` is the largest of all, `before` the sum before here."""
    n, t = program.terms, _wide(x @ p["w"])
    if program.kind == "sum":
        loss = total(t**2)
    elif program.kind == "mean":
        loss = total(jnp.tanh(t) ** 2) / n
    elif program.kind == "norm":
        loss = jnp.sqrt(total(t**2))
    elif program.kind == "softmax":
        peak = lax.stop_gradient(most(t))
        loss = jnp.log(total(jnp.exp(t - peak))) + peak - total(t) / n
    elif program.kind == "product":
        loss = jnp.mean((total(_wide(x * p["v"][:, None])) * _wide(p["w"])) ** 2)
    else:
        loss = total(jnp.tanh((jnp.cumsum(t) + before(t)) / n**0.5)) / n
    return loss.astype(x.dtype)


def reference_of(program: Program) -> Callable[[Any, Any], Any]:
    def reference(parameters: Any, batch: Any) -> Any:
        return _loss(program, parameters, batch["x"], lambda t: t.sum(0), jnp.max, lambda t: 0.0)

    return reference


def candidate_of(program: Program) -> Callable[[Any, Any, Any], dict[str, Any]]:
    axes = Mesh.parse(program.mesh).axes
    total, most, before = _collectives(SUMS[program.order], axes)

    @cache
    def compiled(mesh: Any) -> Any:
        names = ("w", "v") if program.kind == "product" else ("w",)
        specs = {name: P(axes) if name == "v" else P() for name in names}
        local = jax.shard_map(
            lambda p, x: _loss(program, p, x, total, most, before), mesh=mesh, in_specs=(specs, P(axes)), out_specs=P()
        )
        return jax.jit(jax.value_and_grad(local))

    def candidate(parameters: Any, batch: Any, mesh: Any) -> dict[str, Any]:
        loss, gradients = compiled(mesh)(parameters, batch["x"])
        return {"loss": loss} | {f"gradients/{name}": value for name, value in gradients.items()}

    return candidate


def _collectives(own: Reduction, axes: tuple[str, ...]) -> tuple[Reduction, Reduction, Reduction]:
    """`total`, `most` and `before` of `_loss` over all devices; `own` adds up the terms of a device."""

    def total(t: Any) -> Any:
        return lax.psum(own(t), axes)

    def most(t: Any) -> Any:
        return lax.pmax(lax.stop_gradient(t.max()), axes)

    def before(t: Any) -> Any:
        totals = lax.all_gather(t.sum(), axes, tiled=False)
        return jnp.where(jnp.arange(len(totals)) < lax.axis_index(axes), totals, 0).sum()

    return total, most, before
