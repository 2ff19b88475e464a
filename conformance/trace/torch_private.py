"""Everything private of torch that measuring a program of production size touches, in one place.

`missing` says which of it a release of torch no longer has; a test asks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import reduce
from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch

# module, attribute, what it is used for
PRIVATE = (
    ("torch.testing._internal.distributed.fake_pg", "FakeStore", "process groups of ranks that do not exist"),
    ("torch._subclasses.fake_tensor", "FakeTensorMode", "tensors without values"),
    ("torch._C", "_current_graph_task_id", "whether autograd is at work"),
    ("torch.distributed.distributed_c10d", "_resolve_process_group", "the group behind a name"),
    ("torch.distributed._functional_collectives", "AsyncCollectiveTensor", "results that are still under way"),
    (
        "torch.distributed.tensor._sharding_prop",
        "ShardingPropagator._propagate_tensor_meta_non_cached",
        "operations that DTensor runs on whole shapes to learn the shape of a result",
    ),
    ("torch.distributed.tensor.placement_types", "shard_dim_alltoall", "the all-to-all that a CPU mesh replaces"),
)
_PROPAGATION, _ALL_TO_ALL = PRIVATE[5][:2], PRIVATE[6][:2]


def missing() -> tuple[str, ...]:
    """A sentence for each attribute that this torch lacks."""
    return tuple(
        f"torch {torch.__version__} has no {module}.{attribute}: {use}."
        for module, attribute, use in PRIVATE
        if not _is_there(module, attribute)
    )


def fake_store() -> Any:
    return import_module(PRIVATE[0][0]).FakeStore()


def fake_mode() -> Any:
    """Within it tensors have shapes, dtypes and storages, and no values."""
    return import_module(PRIVATE[1][0]).FakeTensorMode(allow_non_fake_inputs=True)


@contextmanager
def _within(place: tuple[str, str], tell: Callable[[bool], None]) -> Iterator[None]:
    """Call `tell(True)` before each call of a private function, and `tell(False)` after it."""
    module, attribute = place
    *owners, name = attribute.split(".")
    owner = reduce(getattr, owners, import_module(module))
    function = getattr(owner, name)

    def told(*args: Any, **kwargs: Any) -> Any:
        tell(True)
        try:
            return function(*args, **kwargs)
        finally:
            tell(False)

    with patch.object(owner, name, told):
        yield


def within_propagation(tell: Callable[[bool], None]) -> AbstractContextManager[None]:
    """Whether DTensor is at work on whole shapes."""
    return _within(_PROPAGATION, tell)


def within_all_to_all(tell: Callable[[bool], None]) -> AbstractContextManager[None]:
    """Whether DTensor carries out an all-to-all by other means."""
    return _within(_ALL_TO_ALL, tell)


def _is_there(module: str, attribute: str) -> bool:
    try:
        reduce(getattr, attribute.split("."), import_module(module))
    except (ImportError, AttributeError):
        return False
    return True
