"""Collectives of a traced JAX program in numpy, among devices that are stacked along dim 0.

Law: rank by rank the result is that of `jax.lax`, up to the order of summation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from conformance.contract.mesh import Mesh
from conformance.trace.arithmetic import widened
from conformance.trace.jax_collectives import Call, perform_mutated
from conformance.trace.jax_devices import ApartError, Devices
from conformance.trace.operators import other_axes


def exchanged(call: Call, values: Sequence[np.ndarray], devices: Devices) -> list[np.ndarray]:
    """A collective on every operand. Raises ApartError where one of the partners is not here."""
    if call.kind == "axis_index":
        return [devices.place(call.axes).astype(np.int32)]
    groups = devices.groups(call.axes)
    return [_put(groups, _KINDS[call.kind](call, x[groups])) for x in values]


def _put(groups: np.ndarray, results: np.ndarray) -> np.ndarray:
    """(group, partner, ...) as the devices lie along dim 0."""
    out = np.empty((groups.size, *results.shape[2:]), results.dtype)
    out[groups] = results
    return out


def _all_reduce(call: Call, x: np.ndarray) -> np.ndarray:
    how = {"sum": np.add, "max": np.maximum, "min": np.minimum}[call.reduction or "sum"]
    total = how.reduce(widened(x), axis=1, keepdims=True).astype(x.dtype)
    return np.broadcast_to(total, x.shape)


def _all_gather(call: Call, x: np.ndarray) -> np.ndarray:
    whole = _joined(x, call.dim) if call.tiled else np.moveaxis(x, 1, call.dim + 1)
    return np.broadcast_to(whole[:, None], (len(x), call.size, *whole.shape[1:]))


def _reduce_scatter(call: Call, x: np.ndarray) -> np.ndarray:
    total: np.ndarray = widened(x).sum(axis=1).astype(x.dtype)
    return _parts(total, call.size, call.dim, call.tiled)


def _all_to_all(call: Call, x: np.ndarray) -> np.ndarray:
    """Partner j gets the j-th part of every partner's."""
    sent = np.stack([_parts(x[:, source], call.size, call.dim, call.tiled) for source in range(call.size)], 2)
    got = [
        _joined(sent[:, to], call.concat) if call.tiled else np.moveaxis(sent[:, to], 1, call.concat + 1)
        for to in range(call.size)
    ]
    return np.stack(got, 1)


def _permute(call: Call, x: np.ndarray) -> np.ndarray:
    out = np.zeros_like(x)
    for source, destination in call.pairs:
        out[:, destination] = x[:, source]
    return out


def _joined(x: np.ndarray, dim: int) -> np.ndarray:
    """(group, partner, ...): the blocks of all partners along an existing dim."""
    return np.concatenate(list(np.moveaxis(x, 1, 0)), axis=dim + 1)


def _parts(x: np.ndarray, size: int, dim: int, tiled: bool) -> np.ndarray:
    """(group, ...) cut along a dim: (group, partner, ...); untiled, that dim is gone."""
    parts: np.ndarray = np.stack(np.split(x, size, axis=dim + 1), 1)
    return parts if tiled else np.squeeze(parts, dim + 2)


_KINDS: dict[str, Callable[[Call, np.ndarray], np.ndarray]] = {
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "all_to_all": _all_to_all,
    "permute": _permute,
}


def wrongly_exchanged(
    call: Call, operator: str, values: Sequence[Any], earlier: Sequence[Any], devices: Devices, mesh: Mesh
) -> list[np.ndarray]:
    """The same under an operator, which JAX performs as one nested `vmap` with the axes' names."""
    axes, groups = _reached(call, operator, devices, mesh)
    sizes = [devices.axes[axis] for axis in axes]

    def wrong(_: Any, operands: Sequence[Any], stale: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(perform_mutated(replace(call, gathered=True), operator, operands, stale, mesh))

    function: Callable[..., Any] = wrong
    for axis in reversed(axes):
        function = jax.vmap(function, axis_name=axis)

    def stacked(x: np.ndarray) -> Any:
        return x[groups].reshape(len(groups), *sizes, *x.shape[1:])

    given = (stacked(np.arange(len(devices))), [*map(stacked, values)], [*map(stacked, earlier)])
    results = jax.vmap(function)(*given)
    return [_put(groups, np.asarray(x).reshape(*groups.shape, *x.shape[1 + len(sizes) :])) for x in results]


def _reached(call: Call, operator: str, devices: Devices, mesh: Mesh) -> tuple[tuple[str, ...], np.ndarray]:
    """The axes over which a wrong collective may reach, and the groups along these."""
    axes = call.axes
    if operator == "wrong_axis":
        others = other_axes(call.axes, mesh)
        axes = tuple(axis for axis in devices.axes if axis in (*call.axes, *others))
        if not set(others) <= set(axes):
            raise ApartError(f"{' and '.join(others)} is no axis of the shard_map")
    return axes, devices.groups(axes)
