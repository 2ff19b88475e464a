"""What one rank computes in a torch step: a digest of every result, so that ranks can be laid side by side."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from conformance.evidence.evidence import Computed
from conformance.trace.torch_flops import product_flops
from conformance.trace.torch_leaves import is_view, leaves
from conformance.trace.torch_sparse import with_memory

# What only moves, selects or makes numbers: no calculation on them. Views are told by torch itself.
_MOVEMENT = """
    clone copy copy_ _to_copy to cat stack concat slice_backward select_backward slice_scatter select_scatter
    zeros zeros_like empty empty_like empty_strided ones ones_like full full_like scalar_tensor new_zeros
    new_empty new_ones new_full new_empty_strided fill fill_ zero_ arange eye tril triu index index_put
    index_put_ index_select gather scatter scatter_ embedding constant_pad_nd roll flip masked_fill masked_fill_
    masked_select where repeat _unsafe_view _reshape_alias lift_fresh lift_fresh_copy set_ resize_ normal_
    uniform_ bernoulli_ random_ rand randn rand_like randn_like bernoulli native_dropout wait_tensor
    _foreach_copy_ _foreach_zero_ split_with_sizes_copy unbind_copy expand_copy view_copy detach_ sort topk
"""
MOVEMENT = frozenset(_MOVEMENT.split())
LOOKUPS = frozenset({"embedding", "gather", "index", "index_select"})


class Results:
    """Collects the results of a step as they are computed."""

    def __init__(self) -> None:
        self._seen: Counter[bytes] = Counter()
        self._digests: list[int] = []
        self._operations: list[int] = []
        self._products: list[bool] = []
        self._tables: list[int] = []

    def add(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """One operation, after it has run."""
        if func.overloadpacket.__name__ in LOOKUPS and _is_floating(args[0]):
            self._tables.append(zlib.crc32(_digest(args[0])))  # no arithmetic; but who has another part has divided it
        operations = calculated(func, args, kwargs, out)
        if not operations:
            return
        content = f"{func} ".encode() + b" ".join(map(_digest, _results(args, out)))
        self._seen[content] += 1
        again = zlib.crc32(str(self._seen[content]).encode(), zlib.crc32(content))
        self._digests.append((again << 32) | zlib.adler32(content))
        self._operations.append(operations)
        self._products.append(product_flops(func, args, kwargs, out) > 0)

    def computed(self) -> Computed:
        return Computed(
            digests=np.array(self._digests, dtype=np.uint64),
            operations=np.array(self._operations, dtype=np.int64),
            products=np.array(self._products, dtype=bool),
            tables=np.array(self._tables, dtype=np.uint32),
        )


class WorkCounter(TorchDispatchMode):
    """Sums up the operations of everything that runs inside it: those of products, and all."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.flops += product_flops(func, args, kwargs or {}, out)
        self.operations += calculated(func, args, kwargs or {}, out)
        return out


def calculated(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Floating-point operations of a call: of a product by its formula, else one per element; 0 if it only moves."""
    if is_view(func) or func.overloadpacket.__name__ in MOVEMENT:
        return 0
    if not any(map(_is_floating, _results(args, out))):
        return 0
    sizes = [math.prod(x.shape) for x in leaves((args, out)) if _is_floating(x)]
    return product_flops(func, args, kwargs, out) or max(sizes)


def _results(args: Any, out: Any) -> list[torch.Tensor]:
    """What a call returned; where it returned nothing, what it changed: its first argument."""
    tensors = [x for x in leaves(out) if isinstance(x, torch.Tensor)]
    return tensors or [x for x in leaves(args[:1]) if isinstance(x, torch.Tensor)]


def _is_floating(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex()) and x.numel() > 0


def _digest(x: torch.Tensor) -> bytes:
    copy = with_memory(x.detach()).clone(memory_format=torch.contiguous_format)  # what numpy has seen keeps its size
    raw = copy.reshape(-1).view(torch.uint8).numpy()
    return f"{tuple(x.shape)}{zlib.crc32(raw.data)}".encode()
