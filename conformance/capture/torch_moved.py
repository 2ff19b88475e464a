"""A recorded run in torch: its parameters and real inputs in the dtype that was asked for, moved by one rounding."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from conformance.capture.orders import Orders
from conformance.evidence.tolerance import EPSILON
from conformance.trace.torch_dataflow import user_line


def converted(model: torch.nn.Module, orders: Orders) -> None:
    """Parameters and buffers, in place, so that an optimizer keeps what it has."""
    if orders.dtype is not None:
        model.to(getattr(torch, orders.dtype))


def move_parameters(parameters: Iterable[tuple[str, torch.Tensor]], orders: Orders) -> None:
    if orders.member:
        with torch.no_grad():
            for name, value in parameters:
                value.copy_(_moved(value, name, orders))


def moved_inputs(value: Any, what: str, orders: Orders) -> Any:
    """Real tensors among the arguments of a model, wherever they are; everything else as it is."""
    if isinstance(value, (tuple, list)):
        return type(value)(moved_inputs(item, f"{what}.{i}", orders) for i, item in enumerate(value))
    if isinstance(value, dict):
        return {key: moved_inputs(item, f"{what}.{key}", orders) for key, item in value.items()}
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.requires_grad:
        return value
    value = value if orders.dtype is None else value.to(getattr(torch, orders.dtype))
    return _moved(value, what, orders) if orders.member else value


def _moved(value: torch.Tensor, name: str, orders: Orders) -> torch.Tensor:
    """Every element by one unit in its last place, up, down or not at all; the same in every run of a member."""
    rng = np.random.default_rng([orders.member, zlib.crc32(name.encode())])
    ulps = torch.as_tensor(rng.integers(-1, 2, tuple(value.shape)), dtype=torch.float64, device=value.device)
    own = str(value.dtype).removeprefix("torch.")
    epsilon = EPSILON.get(orders.rounding or own, EPSILON["bfloat16"])
    return (value.double() * (1 + ulps * epsilon)).to(value.dtype)


def in_float64(model: torch.nn.Module) -> Iterator[Callable[[], None]]:
    """Within its forward calls float64 is the default dtype, for constants that it makes; elsewhere all is as it was.

    What draws random data does so outside, and draws the same as ever. Yields what takes the hooks away again.
    """
    before: list[torch.dtype] = []

    def enter(module: torch.nn.Module, args: Any) -> None:
        before.append(torch.get_default_dtype())
        torch.set_default_dtype(torch.float64)

    def leave(module: torch.nn.Module, args: Any, output: Any) -> None:
        torch.set_default_dtype(before.pop())

    yield model.register_forward_pre_hook(enter).remove
    yield model.register_forward_hook(leave, always_call=True).remove


class LowerWatch(TorchDispatchMode):
    """Sees what a float64 run rounds to fewer bits: an operation of float64 numbers with a narrower result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lower: dict[tuple[str, str], dict[str, str]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if _narrower(result) and any(isinstance(x, torch.Tensor) and x.dtype == torch.float64 for x in args):
            self._note(str(function), str(result.dtype).removeprefix("torch."))
        return result

    def _note(self, operation: str, dtype: str) -> None:
        place = user_line().rpartition("/")[2]
        self.lower.setdefault((operation, place), {"operation": operation, "dtype": dtype, "place": place})


def _narrower(result: Any) -> bool:
    return isinstance(result, torch.Tensor) and result.is_floating_point() and result.dtype != torch.float64
