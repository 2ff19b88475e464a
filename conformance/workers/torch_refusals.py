"""What a torch program must not do where one process stands for all ranks (LocalTensorMode, torch 2.13).

There every tensor has a value for each rank, but the program is run once: `dist.get_rank()` is 0 for all of them, so
a program that asks for its rank would be silently wrong. Allowed are DTensor and functional collectives, inside which
torch itself knows better.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any
from unittest.mock import patch

import torch.distributed.distributed_c10d as c10d
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup
from torch.overrides import TorchFunctionMode

from conformance.contract.implementation import Unsupported

OF_MESH = ("get_coordinate", "get_local_rank", "get_rank")
HARMLESS = ("get_world_size", "is_initialized", "get_backend", "get_process_group_ranks")
LOGGER = "torch.distributed.c10d_logger"
HANDING_ON = ("torch.overrides", c10d.__name__, LOGGER)
UNDIVIDED = "one process stands for all ranks, and its program is run once"


class Operations(TorchFunctionMode):
    """Every operation on tensors is called from here; a collective only where the program may call it.

    DTensor's dispatch is in C++ and asks the mesh for the rank: with no frame in between it would seem as if the
    program had asked, in the line of its operation.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__module__", None) == c10d.__name__:
            _refuse(function.__name__, _outside(sys._getframe(1)))
        return function(*args, **(kwargs or {}))


@contextmanager
def refusals() -> Iterator[None]:
    """Raise Unsupported where the program, and not torch, asks for its rank, communicates by hand, or uses FSDP2."""
    known = c10d._rank_not_in_group

    def watched(group: Any) -> bool:
        function = sys._getframe(1)
        if function.f_code.co_name != "get_rank" or not _is_logger(function.f_back):
            _refuse(function.f_code.co_name, _caller(function))
        return known(group)

    with ExitStack() as patches:
        patches.enter_context(patch.object(c10d, "_rank_not_in_group", watched))
        patches.enter_context(patch.object(FSDPParamGroup, "__init__", _refuse_fsdp))
        for name in OF_MESH:
            patches.enter_context(patch.object(DeviceMesh, name, _asked(name, getattr(DeviceMesh, name))))
        patches.enter_context(Operations())
        yield


def _asked(name: str, known: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: DeviceMesh, *args: Any, **kwargs: Any) -> Any:
        _refuse(f"DeviceMesh.{name}", sys._getframe(1))
        return known(self, *args, **kwargs)

    return method


def _outside(frame: FrameType) -> FrameType:
    """Who called the collective that was handed to the mode."""
    while frame.f_back is not None and frame.f_globals.get("__name__") in HANDING_ON:
        frame = frame.f_back
    return frame


def _caller(function: FrameType) -> FrameType:
    """Who called a function of torch.distributed; its decorators do not count."""
    frame = function.f_back
    while _is_logger(frame):
        frame = frame.f_back if frame is not None else None
    return frame or function


def _is_logger(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_globals.get("__name__") == LOGGER


def _refuse(name: str, caller: FrameType) -> None:
    module = str(caller.f_globals.get("__name__", ""))
    if name in HARMLESS or module.startswith(("torch.", "conformance.workers.")):
        return
    what = "asks for its rank by" if "rank" in name or "coordinate" in name else "communicates by"
    raise Unsupported(
        f"The program {what} {name} ({caller.f_code.co_filename}:{caller.f_lineno}), where {UNDIVIDED}: DTensor and "
        "functional collectives alone can run so."
    )


def _refuse_fsdp(self: Any, *args: Any, **kwargs: Any) -> None:
    raise Unsupported(f"The program uses FSDP2, which cannot run where {UNDIVIDED}.")
