"""The memory of one rank: which storages live, and their bytes at the peak.

A storage counts from the operation that made it until the last tensor on it is gone, by Python's own count of
references, and with the size that it has at the moment: FSDP2 empties storages and fills them again. Views and copies
that share a storage count once. No allocator rounds or keeps anything here.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch


class LiveStorages:
    """Bytes of all storages that were handed to `add` and live."""

    def __init__(self) -> None:
        self.bytes, self.peak = 0, 0
        self._sizes: dict[int, int] = {}
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def add(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._sizes:
                self._sizes[key] = 0
                self._alive[key] = weakref.ref(storage, partial(self._gone, key))
            self._resized(key, storage.nbytes())

    def _resized(self, key: int, size: int) -> None:
        self.bytes += size - self._sizes[key]
        self._sizes[key] = size
        self.peak = max(self.peak, self.bytes)

    def _gone(self, key: int, _: Any) -> None:
        self.bytes -= self._sizes.pop(key)
        del self._alive[key]

    @contextmanager
    def watching_sizes(self) -> Iterator[None]:
        """`UntypedStorage.resize_` is no operation that torch dispatches."""
        resize = torch.UntypedStorage.resize_

        def told(storage: torch.UntypedStorage, size: int) -> Any:
            resized = resize(storage, size)
            if storage._cdata in self._sizes:
                self._resized(storage._cdata, storage.nbytes())
            return resized

        with patch.object(torch.UntypedStorage, "resize_", told):
            yield
