"""Hooks into a torch trainer: the forward calls of its modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch

from conformance.trace.torch_wrappers import plain, positional, unwrapped

Seen = Callable[[str, torch.Tensor], None]


def watched(model: torch.nn.Module, patterns: Sequence[str] | None) -> Iterator[tuple[str, torch.nn.Module]]:
    """The modules whose outputs are captured, by their plain names: the model's children and the items of lists."""
    whole = unwrapped(model)
    for name, module in whole.named_modules():
        own = plain(name)
        parent = whole.get_submodule(name.rpartition(".")[0]) if name else None
        if patterns is not None:
            wanted = any(fnmatchcase(own, pattern) for pattern in patterns)
        else:
            item = isinstance(parent, (torch.nn.ModuleList, torch.nn.ModuleDict)) and own.count(".") == 1
            wanted = parent is whole or item
        is_inside = parent is not None and plain(name.rpartition(".")[0]) == own  # its wrapper is watched
        if own and wanted and not is_inside and not isinstance(module, (torch.nn.ModuleList, torch.nn.ModuleDict)):
            yield own, module


def named_inputs(model: torch.nn.Module, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a forward call is given, by the names that the module inside all wrappers has for it.

    What has no name there goes by its number.
    """
    known = positional(unwrapped(model))
    names = [*known, *map(str, range(len(known), len(args)))]
    return dict(zip(names, args, strict=False)) | kwargs


def is_training(module: torch.nn.Module) -> bool:
    """Whether a forward call belongs to a step: no evaluation, and not again in the backward pass, to recompute."""
    return torch._C._current_graph_task_id() == -1 and (module.training or torch.is_grad_enabled())


def rehearsing() -> bool:
    """Whether a pipeline stage runs its module before the first step, to learn shapes: that is no part of a step."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "_forward_metadata_inference":
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


def on_output(name: str, seen: Seen) -> Callable[..., None]:
    """A forward hook that hands over what a module gives: while it trains, and not again where it is recomputed."""

    def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
        if is_training(module):
            for suffix, tensor in _tensors(output):
                seen(f"{name}{suffix}", tensor)

    return hook


def _tensors(output: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The real tensors of an output, and what tells each from the others."""
    if isinstance(output, torch.Tensor):
        if output.is_floating_point():
            yield "", output
    elif isinstance(output, dict):
        yield from ((f".{key}{s}", x) for key, item in output.items() for s, x in _tensors(item))
    elif isinstance(output, (tuple, list)):
        yield from ((f".{i}{s}", x) for i, item in enumerate(output) for s, x in _tensors(item))
