"""Collectives of a traced JAX program: read one from its equation, perform it, or perform a mutant in its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jax import lax

from conformance.trace import jax_version as version
from conformance.trace.jax_gathered import gathered
from conformance.trace.jax_version import JaxprEqn
from conformance.trace.operators import SiteKind, other_axes

KINDS: dict[str, SiteKind] = {
    **dict.fromkeys(version.REDUCTIONS, "all_reduce"),
    **dict.fromkeys(version.GATHERS, "all_gather"),
    **dict.fromkeys(version.SCATTERS, "reduce_scatter"),
    "all_to_all": "all_to_all",
    "ppermute": "permute",
    "axis_index": "axis_index",
}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One collective as it stands in the program.

    dim      the dim that is gathered, scattered or split; `concat` the dim that an all-to-all concatenates
    tiled    blocks lie along an existing dim; otherwise along a dim of their own
    pairs    (source, destination) of a permutation
    gathered    it is performed by gathers alone, since the axes are those of a nested `vmap`
    """

    kind: SiteKind
    reduction: str | None
    axes: tuple[str, ...]
    size: int
    dim: int = 0
    concat: int = 0
    tiled: bool = True
    pairs: tuple[tuple[int, int], ...] = ()
    gathered: bool = False

    @property
    def name(self) -> Any:
        """The axes as `jax.lax` wants them."""
        return self.axes[0] if len(self.axes) == 1 else self.axes


def read_call(eqn: JaxprEqn, sizes: dict[str, int], alone: bool = False) -> Call | None:
    """The collective in an equation; None for any other equation, and, but for `alone`, where none has a partner."""
    primitive = eqn.primitive.name
    if primitive not in KINDS:
        return None
    axes = tuple(axis for axis in version.axis_names(eqn) if axis in sizes)
    size = math.prod(sizes[axis] for axis in axes)
    reduction = version.REDUCTIONS.get(primitive, "sum" if primitive in version.SCATTERS else None)
    if (size == 1 and not alone) or len(axes) < len(eqn.params.get("axes", ())):
        return None
    params = eqn.params
    return Call(
        kind=KINDS[primitive],
        reduction=reduction,
        axes=axes,
        size=size,
        dim=next((params[k] for k in ("all_gather_dimension", "scatter_dimension", "split_axis") if k in params), 0),
        concat=params.get("concat_axis", 0),
        tiled=params.get("tiled", True),
        pairs=tuple(params.get("perm", ())),
    )


def perform(call: Call, operands: Sequence[Any]) -> list[Any]:
    """The collective as written, on every operand."""
    return [_run(call, x) for x in operands] if operands else [lax.axis_index(call.name)]


def _run(call: Call, x: Any) -> Any:
    if call.kind == "all_reduce":
        return {"sum": lax.psum, "max": lax.pmax, "min": lax.pmin}[call.reduction or "sum"](x, call.name)  # type: ignore[no-untyped-call]
    if call.gathered:
        return gathered(call, x)
    if call.kind == "all_gather":
        return lax.all_gather(x, call.name, axis=call.dim, tiled=call.tiled)
    if call.kind == "reduce_scatter":
        return lax.psum_scatter(x, call.name, scatter_dimension=call.dim, tiled=call.tiled)
    if call.kind == "all_to_all":
        return lax.all_to_all(x, call.name, call.dim, call.concat, tiled=call.tiled)
    return lax.ppermute(x, call.name, call.pairs)


def _own_block(call: Call, x: Any) -> Any:
    """The block of x along `dim` that has this device's number."""
    width = x.shape[call.dim] // call.size
    block = lax.dynamic_slice_in_dim(x, lax.axis_index(call.name) * width, width, call.dim)
    return block if call.tiled else jnp.squeeze(block, call.dim)


def _copies(x: Any, size: int, dim: int, tiled: bool) -> Any:
    return jnp.concatenate([x] * size, dim) if tiled else jnp.stack([x] * size, dim)


def _local(call: Call, x: Any) -> Any:
    if call.kind == "all_gather":
        return _copies(x, call.size, call.dim, call.tiled)
    if call.kind == "reduce_scatter":
        return _own_block(call, x)
    return _copies(_own_block(call, x), call.size, call.concat, call.tiled)


def _repeat(call: Call, x: Any) -> Any:
    return _run(call, lax.psum(x, call.name) if call.kind == "reduce_scatter" else _run(call, x))


def _sum_to_mean(call: Call, x: Any) -> Any:
    result = _run(call, x)
    return (result / call.size).astype(result.dtype)


def _sum_to_max(call: Call, x: Any) -> Any:
    largest = lax.pmax(x, call.name)
    return _own_block(call, largest) if call.kind == "reduce_scatter" else largest


def _rolled(call: Call, x: Any) -> Any:
    """Blocks go round by one: of the result of a gather, of the operand of a scatter or all-to-all."""
    if call.kind == "all_gather":
        gathered = _run(call, x)
        return jnp.roll(gathered, gathered.shape[call.dim] // call.size, call.dim)
    return _run(call, jnp.roll(x, x.shape[call.dim] // call.size, call.dim))


def _shifted(call: Call, x: Any) -> Any:
    return _run(replace(call, pairs=tuple((a, (b + 1) % call.size) for a, b in call.pairs)), x)


def _reversed(call: Call, x: Any) -> Any:
    return _run(replace(call, pairs=tuple((b, a) for a, b in call.pairs)), x)


def _low_precision(call: Call, x: Any) -> Any:
    # Not astype there and back, which a compiler may leave out.
    return _run(call, lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7))


_MUTANTS: dict[str, Callable[[Call, Any], Any]] = {
    "drop": lambda call, x: x,
    "local": _local,
    "repeat": _repeat,
    "sum_to_mean": _sum_to_mean,
    "sum_to_max": _sum_to_max,
    "shifted_permutation": _shifted,
    "reversed_permutation": _reversed,
    "rolled": _rolled,
    "low_precision": _low_precision,
}


def perform_mutated(call: Call, operator: str, operands: Sequence[Any], earlier: Sequence[Any], mesh: Any) -> list[Any]:
    """The collective under an operator; `earlier` is, for each operand, what `stale_operand` sends instead of it."""
    if operator == "rank_off_by_one":
        return [(lax.axis_index(call.name) + 1) % call.size]
    if operator == "stale_operand":
        return perform(call, earlier)
    if operator == "wrong_axis":
        return perform(replace(call, axes=other_axes(call.axes, mesh)), operands)
    return [_MUTANTS[operator](call, x) for x in operands]
