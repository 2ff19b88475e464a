"""The floating-point operations of one equation of a jaxpr."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from conformance.trace import jax_version as version
from conformance.trace.jax_flops import product_flops
from conformance.trace.jax_version import JaxprEqn

# What only moves, selects or makes numbers: no calculation on them.
_MOVEMENT = """
    broadcast_in_dim concatenate convert_element_type copy copy_p device_put dynamic_slice dynamic_update_slice
    expand_dims gather iota optimization_barrier pad pvary pcast reduce_precision reshape rev select_n
    sharding_constraint slice split squeeze stop_gradient transpose random_bits random_wrap random_unwrap
    random_seed random_fold_in random_split threefry2x32
"""
MOVEMENT = frozenset(_MOVEMENT.split())


def operations(eqn: JaxprEqn) -> int:
    """Floating-point operations of one equation: of a product by its formula, else one per element."""
    if not _calculates(eqn):
        return 0
    sizes = [math.prod(version.shape(atom)) for atom in (*eqn.invars, *eqn.outvars) if _is_floating(atom)]
    return product_flops(eqn) or max(sizes)


def _calculates(eqn: JaxprEqn) -> bool:
    name = eqn.primitive.name
    if name in MOVEMENT or name in version.INLINED or name in ("shard_map", "scan", "while", "cond"):
        return False
    communicates = name in (*version.GATHERS, *version.CASTS, "ppermute", "all_to_all", "axis_index")
    return not communicates and any(_is_floating(atom) for atom in eqn.outvars)


def _is_floating(atom: Any) -> bool:
    dtype = getattr(getattr(atom, "aval", None), "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
