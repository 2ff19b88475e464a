"""Floating point operations of the matrix products and convolutions that one device carries out in a traced step."""

from __future__ import annotations

import math

from conformance.contract.mesh import Mesh
from conformance.trace.jax_places import Frame, walk
from conformance.trace.jax_version import Jaxpr, JaxprEqn, shape


def device_flops(jaxpr: Jaxpr, mesh: Mesh) -> int | None:
    """2 x rows x columns x depth of every product in a shard_map, scans unrolled.

    None when there is no shard_map, or a product stands outside one: then the partitioner decides who does what.
    """
    places = list(walk(jaxpr, Frame(), every_branch=False))
    if not any(place.frame.sizes for place in places):
        return None
    products = [place for place in places if product_flops(place.eqn)]
    if any(math.prod((place.frame.sizes or {}).values()) != mesh.devices for place in products):
        return None
    return sum(place.frame.trips * product_flops(place.eqn) for place in products)


def product_flops(eqn: JaxprEqn) -> int:
    """Of one equation; 0 for every other operation."""
    counted = _FLOPS.get(eqn.primitive.name)
    return counted(eqn) if counted is not None else 0


def _dot_general(eqn: JaxprEqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left, result = shape(eqn.invars[0]), shape(eqn.outvars[0])
    return int(2 * math.prod(result) * math.prod(left[dim] for dim in contracted))


def _convolution(eqn: JaxprEqn) -> int:
    kernel, result = shape(eqn.invars[1]), shape(eqn.outvars[0])
    out_features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
    return int(2 * math.prod(result) * math.prod(kernel) // out_features)


_FLOPS = {"dot_general": _dot_general, "conv_general_dilated": _convolution}
