"""What is wrapped around modules in torch: names of parameters and modules without it, and the module inside."""

from __future__ import annotations

import inspect

import torch

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "module.")
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def plain(name: str) -> str:
    """Without what torch.compile, checkpointing, FSDP and DDP put around modules."""
    name = f"{name}."
    for wrapper in WRAPPERS[:-1]:
        name = name.replace(wrapper, "")
    while name.startswith(WRAPPERS[-1]):
        name = name.removeprefix(WRAPPERS[-1])
    return name.removesuffix(".")


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The module inside: that which says what a forward call is given."""
    while (inner := _inner(module)) is not None:
        module = inner
    return module


def positional(module: torch.nn.Module) -> list[str]:
    """The names of what its forward call takes by position."""
    parameters = inspect.signature(module.forward).parameters
    return [name for name, parameter in parameters.items() if parameter.kind in POSITIONAL]


def _inner(module: torch.nn.Module) -> torch.nn.Module | None:
    """Of a wrapper, which hands on whatever it is given to its only child."""
    children = list(module.named_children())
    known = len(children) == 1 and f"{children[0][0]}." in WRAPPERS
    own = inspect.signature(type(module).forward).parameters.values() if known else ()
    named = sum(parameter.kind in POSITIONAL for parameter in own)  # `self` is one
    return children[0][1] if known and named <= 1 else None
