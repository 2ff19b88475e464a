"""Which line of the user's program an operation of a torch step belongs to, in the backward pass too.

What autograd does has no frame of the user's but that which called `backward`. A node of its graph has the sequence
number that the operation of the forward pass took, and so has the line of that.
"""

from __future__ import annotations

import sys

import torch

from conformance.trace.torch_dataflow import is_users
from conformance.trace.torch_watcher import in_backward

_ENGINE = "_engine_run_backward"  # of torch.autograd.graph, below which autograd works through its graph


class Lines:
    """To be asked at every operation, in the order in which they are dispatched."""

    def __init__(self) -> None:
        self._forward: dict[int, str] = {}  # sequence number -> the line of the operation that took it

    def here(self) -> str:
        """`file:line` of the innermost frame that is neither torch's nor ours; of a gradient, that of its operation."""
        line, is_engine = _innermost()
        if is_engine:
            node = torch._C._current_autograd_node() if in_backward() else None
            return line if node is None else self._forward.get(node._sequence_nr(), line)
        self._forward.setdefault(torch.autograd._get_sequence_nr() - 1, line)
        return line


def _innermost() -> tuple[str, bool]:
    """The user's line, and whether it only called autograd, which does the rest."""
    frame, is_engine = sys._getframe(1), False
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}", is_engine
        is_engine = is_engine or frame.f_code.co_name == _ENGINE
        frame = frame.f_back  # type: ignore[assignment]
    return "", is_engine
