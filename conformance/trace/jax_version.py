"""Everything about traced programs that differs between versions of JAX, in one place (read in jax 0.10.2 and 0.11.2).

Names and parameters of primitives are internal to JAX. Whoever moves to a newer JAX looks here first.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from jax._src import source_info_util
from jax.extend import core
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

__all__ = ["ClosedJaxpr", "Jaxpr", "JaxprEqn", "Literal", "Var"]

_OURS = f"{Path(__file__).parents[1]}{os.sep}"
REDUCTIONS = {
    "psum": "sum",
    "psum2": "sum",
    "psum_invariant": "sum",
    "unreduced_psum": "sum",
    "pmax": "max",
    "pmin": "min",
}
GATHERS = ("all_gather", "all_gather_invariant", "all_gather_reduced")
SCATTERS = ("reduce_scatter", "unreduced_reduce_scatter")
# Casts between the types of `check_vma=True`: the same bits, no traffic.
CASTS = ("pvary", "pbroadcast2", "pcast", "reduced_vary_cast_p", "vary_unreduced_cast_p", "preduced")
# Collectives that nothing here can read yet: better a sentence than a count that misses them.
UNREADABLE = ("ragged_all_to_all", "psend", "precv", "pbroadcast", "pgather")
INLINED = (
    "jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call",
    "custom_vjp_call_jaxpr",
)  # fmt: skip
# Operations whose results are their operands' elements, moved, repeated, converted or negated.
MOVES = (
    "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "copy_p", "device_put", "expand_dims", "name",
    "neg", "optimization_barrier", "reduce_precision", "reshape", "rev", "sharding_constraint", "slice", "squeeze",
    "stack", "transpose",
)  # fmt: skip
# Operations element by element: of operands of one shape, or numbers.
ELEMENTWISE = (
    "abs", "add", "add_any", "and", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "copy_p", "cos", "div",
    "eq", "erf", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p",
    "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "pow", "reduce_precision", "rem", "round", "rsqrt",
    "select_n", "sign", "sin", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor",
)  # fmt: skip
SHARDINGS = ("sharding", "out_sharding")  # parameters of inner equations that speak of the mesh outside


def is_unreadable(eqn: JaxprEqn) -> bool:
    name = eqn.primitive.name
    return name in UNREADABLE or name.endswith(("_start", "_done"))


def axis_names(eqn: JaxprEqn) -> tuple[str, ...]:
    """The mesh axes of a collective; positional axes (numbers, from vmap) are not communication."""
    names = eqn.params["axes"] if "axes" in eqn.params else eqn.params["axis_name"]
    names = names if isinstance(names, (tuple, list)) else (names,)
    return tuple(name for name in names if isinstance(name, str))


def shape(atom: Any) -> tuple[int, ...]:
    """The per-device shape of an operand or result."""
    return tuple(atom.aval.shape)


def dtype(atom: Any) -> Any:
    return atom.aval.dtype


def inner(eqn: JaxprEqn) -> ClosedJaxpr:
    """The one program inside a call, remat, custom rule, shard_map or scan."""
    jaxpr = eqn.params["call_jaxpr"] if "call_jaxpr" in eqn.params else eqn.params["jaxpr"]
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else core.ClosedJaxpr(jaxpr, ())


def scanned(eqn: JaxprEqn) -> tuple[int, int]:
    """How many operands of a scan are constants of its body, and how many it carries; the rest it goes through."""
    params = eqn.params
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()  # since jax 0.11
    return len(consts), len(carry)


def name_stack(eqn: JaxprEqn) -> str:
    """The scopes and transformations that an equation was traced under, for example `transpose(jvp(layer))`."""
    return str(eqn.source_info.name_stack)


def user_line(eqn: JaxprEqn) -> str:
    """`file:line` of the innermost frame of an equation that is neither JAX's nor ours; empty where there is none."""
    frames = source_info_util.user_frames(eqn.source_info.traceback)
    return next((f"{frame.file_name}:{frame.start_line}" for frame in frames if not _is_ours(frame.file_name)), "")


def _is_ours(file: str) -> bool:
    return file.startswith(_OURS)


def rounded_to(eqn: JaxprEqn) -> str | None:
    """The dtype whose numbers `reduce_precision` leaves; None for any other equation."""
    if eqn.primitive.name != "reduce_precision":
        return None
    bits = (eqn.params["exponent_bits"], eqn.params["mantissa_bits"])
    return {(8, 7): "bfloat16", (5, 10): "float16"}.get(bits)


def same_names(eqn: JaxprEqn) -> AbstractContextManager[None]:
    """Trace under the scopes and transformations of an equation, so that what is traced again keeps its phases."""
    names = source_info_util.current_name_stack() + eqn.source_info.name_stack
    return source_info_util.user_context(eqn.source_info.traceback, name_stack=names)


def manual_axes(eqn: JaxprEqn) -> dict[str, int]:
    """Axis -> size of the axes over which a shard_map hands out blocks."""
    sizes = dict(eqn.params["mesh"].shape)
    return {axis: sizes[axis] for axis in eqn.params["mesh"].axis_names if axis in eqn.params["newly_manual_axes"]}


def is_specified(sharding: Any) -> bool:
    return sharding is not None and type(sharding).__name__ != "UnspecifiedValue"


def bind(eqn: JaxprEqn, values: list[Any], inside: bool) -> list[Any]:
    """Evaluate one equation as it stands; inside a shard_map without the sharding parameters of the outer mesh."""
    params = eqn.primitive.get_bind_params(eqn.params)
    if inside:
        params = {key: None if key in SHARDINGS else value for key, value in params.items()}
        outs = eqn.primitive.bind(*values, **params)
    else:
        with eqn.ctx.manager:
            outs = eqn.primitive.bind(*values, **params)
    return list(outs) if eqn.primitive.multiple_results else [outs]
