"""The tensors of a torch training state, which is whatever its implementation makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch

from conformance.contract.implementation import Reordered
from conformance.trace.torch_sparse import with_memory


def tensors(value: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """(where, tensor), in mappings, sequences, dataclasses, modules and optimizers; other objects are not looked into.

    Of a flat mapping the path is just the name.
    """
    if isinstance(value, torch.Tensor):
        yield path, with_memory(value)
    elif isinstance(value, torch.nn.Module):
        for name, tensor in (*value.named_parameters(), *value.named_buffers()):
            yield f"{path}.{name}", tensor
            yield from tensors(tensor.grad, f"{path}.{name}.grad")
    elif isinstance(value, torch.optim.Optimizer):
        yield from tensors(dict(enumerate(value.state.values())), f"{path}.state")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors(item, key if not path and _is_flat(value) else f"{path}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from tensors(item, f"{path}[{number}]")
    elif isinstance(value, Reordered):
        yield from tensors(value.value, path)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            of_wrapper = field.name == "local"
            yield from tensors(getattr(value, field.name), path if of_wrapper else f"{path}.{field.name}")


def _is_flat(value: Mapping[Any, Any]) -> bool:
    """What is collected is: every name stands for one tensor."""
    return all(isinstance(key, str) and not isinstance(item, (Mapping, list, tuple)) for key, item in value.items())
