"""The data flow of a watched torch step, operation by operation as they are dispatched on one rank.

A tensor is known by its storage: what is written in place, or through a view, belongs to all who see that memory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import typing_extensions
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.tensor import DTensor
from torch.multiprocessing.reductions import StorageWeakRef

from conformance.evidence.arithmetic import BITS
from conformance.trace.dataflow import ADD, COLLECTIVE, EXP, LOG, MOVE, OTHER, REDUCE, ROOT, Node
from conformance.trace.lower_precision import is_exact, settle
from conformance.trace.torch_leaves import is_mutable, leaves
from conformance.trace.torch_sparse import with_memory

_LOG = logging.getLogger("shardproof.trace")

_KINDS = {"add": ADD, "sub": ADD, "rsub": ADD, "exp": EXP, "exp2": EXP, "log": LOG, "rsqrt": ROOT, "sqrt": ROOT}
_KINDS |= dict.fromkeys(("sum", "mean", "var", "var_mean"), REDUCE)
_KINDS |= dict.fromkeys(
    (
        "_chunk_cat", "_to_copy", "_unsafe_view", "cat", "chunk_cat", "clone", "constant_pad_nd", "copy", "fill",
        "flip", "index_add", "index_select", "lift_fresh", "lift_fresh_copy", "masked_fill", "neg", "repeat", "roll",
        "select_backward", "slice_backward", "slice_scatter", "split_with_sizes_copy", "stack", "view_copy", "where",
        "zero",
    ),
    MOVE,
)  # fmt: skip
_SCALES = ("mul", "div")
_MOVES = frozenset((
    *(name for name, kind in _KINDS.items() if kind == MOVE), "embedding", "gather", "index", "index_put", "scatter",
    "sort", "topk", "tril", "triu", "wait_tensor",
))  # fmt: skip
# Operations that make whole numbers of whole numbers, or of none.
_WHOLE = _MOVES | frozenset((
    "abs", "add", "amax", "amin", "arange", "bernoulli", "bmm", "ceil", "clamp", "cumsum", "empty", "empty_like",
    "empty_strided", "eye", "floor", "full", "full_like", "max", "maximum", "min", "minimum", "mm", "mul", "new_empty",
    "new_full", "new_ones", "new_zeros", "one_hot", "ones", "ones_like", "relu", "round", "rsub", "scalar_tensor",
    "scatter_add", "sign", "sub", "sum", "zeros", "zeros_like",
))  # fmt: skip
_REDUCING = ("all_reduce", "reduce_scatter", "reduce")
_DRAWS = frozenset((
    "cauchy", "exponential", "geometric", "log_normal", "normal", "rand", "rand_like", "randint", "randn",
    "randn_like", "uniform",
))  # fmt: skip
_NOT_USERS = (
    os.path.dirname(torch.__file__),
    os.path.dirname(os.path.dirname(__file__)),
    contextlib.__file__,  # it and the next lie between a frame of torch and one of the user's
    threading.__file__,
    typing_extensions.__file__,  # of what is deprecated
)


class TorchFlow:
    """Told every operation of a step, it knows the node of every tensor that is alive.

    `bits`: lines of the program are noted of what is done in fewer bits.
    """

    def __init__(self, bits: int = 32) -> None:
        self.nodes: list[Node] = []
        self._bits = bits
        self._last: dict[int, tuple[StorageWeakRef, Node]] = {}  # storage -> what was written there last

    def node(self, tensor: torch.Tensor) -> Node:
        """What made a tensor; an input of the step where nothing is known of it."""
        storage = tensor.untyped_storage()
        known = self._last.get(storage._cdata)
        if known is not None and not known[0].expired():
            return known[1]
        node = Node(kind=OTHER, name="input", dtype=_dtype(tensor), uniform=_is_uniform(tensor))
        node.exact = self._bits > 32 and node.dtype in BITS and _holds_whole(tensor)
        self._last[storage._cdata] = (StorageWeakRef(storage), node)
        return node

    def operation(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """One operation that was carried out."""
        name = func.overloadpacket.__name__.rstrip("_")
        if name.startswith("_foreach_"):
            for each, result in zip(_transposed(args), results_of(out) or results_of(args[0]), strict=False):
                self._note(name.removeprefix("_foreach_"), each, [result], is_mutable(func))
            return
        given, mutated = (args, kwargs), is_mutable(func)
        results = [*results_of(out), *(written_by(func, args, kwargs) if mutated else ())]
        if name == "pow" and isinstance(args[1], float) and abs(args[1]) == 0.5:
            name = "sqrt"
        if func.namespace == "c10d":
            name = "copy"  # among no others
        self._note(name, given, results, mutated)

    def collective(self, name: str, axes: tuple[str, ...], sums: bool, given: Any, outputs: Any) -> None:
        """One collective: `given` are all arguments, `outputs` the tensors that hold what came back."""
        results = results_of(outputs)
        written = {_storage(tensor) for tensor in results}
        sent = [tensor for tensor in results_of(given) if name == "all_reduce" or _storage(tensor) not in written]
        sources = [self.node(tensor) for tensor in sent]
        for result in results:
            node = self._made(COLLECTIVE, name, result, sources)
            node.axes, node.sums = axes, sums

    def _note(self, name: str, given: Any, results: Sequence[torch.Tensor], mutated: bool) -> None:
        values = leaves(given)
        tensors, whole = (
            results_of(values),
            all(is_exact(np.asarray(value)) for value in values if type(value) is float),
        )
        held = {_storage(tensor) for tensor in tensors}
        for result in results:
            if _storage(result) in held and not mutated:
                continue  # a view
            overwritten = mutated and name in ("copy", "fill", "zero") and _is_whole(result)
            terms = [tensor for tensor in tensors if not overwritten or _storage(tensor) != _storage(result)]
            self._operation(name, result, terms, whole and (name in _WHOLE or self._is_whole_number(result)))

    def _is_whole_number(self, result: torch.Tensor) -> bool:
        """One number of few digits, told by its value: the inverse of a power of two, say; narrower dtypes have few."""
        return self._bits > 32 and result.numel() == 1 and BITS.get(_dtype(result), 0) >= 32 and _holds_whole(result)

    def _operation(self, name: str, result: torch.Tensor, terms: list[torch.Tensor], whole: bool) -> None:
        sources = [self.node(tensor) for tensor in terms]
        if name in _SCALES:
            scaled = _scaled(sources)
            self._made(MOVE if scaled else OTHER, name, result, scaled, sources, whole)
        elif name == "logsumexp":
            self._made(LOG, name, result, [self._made(REDUCE, name, result, sources)])
        else:
            kind = _KINDS.get(name, OTHER)
            self._made(kind, name, result, sources if kind != OTHER else [], sources, whole)

    def _made(
        self,
        kind: str,
        name: str,
        result: torch.Tensor,
        sources: list[Node],
        terms: Sequence[Node] = (),
        whole: bool = False,
    ) -> Node:
        task = torch._C._current_graph_task_id()
        node = Node(
            kind=kind,
            name=name,
            dtype=_dtype(result),
            sources=sources,
            uniform=_is_uniform(result),
            derived=task != -1 or any(source.derived for source in terms or sources),
            backward=task,
        )
        moves = name in _MOVES or (kind == COLLECTIVE and name not in _REDUCING)
        whole = whole or (kind == COLLECTIVE and bool(sources))  # of what came in nothing is known here
        settle(node, terms or sources, moves=moves, whole=whole, drawn=name in _DRAWS)
        if BITS.get(node.dtype, 64) < self._bits:
            node.place = user_line()
        self.nodes.append(node)
        storage = result.untyped_storage()
        self._last[storage._cdata] = (StorageWeakRef(storage), node)
        return node


def _scaled(sources: list[Node]) -> list[Node]:
    """What a product or quotient scales: what varies, or else what autograd made; nothing inside of autograd."""
    varying = [source for source in sources if not source.uniform] or sources
    if len(varying) == 1:
        return varying
    derived = [source for source in varying if source.derived]
    return derived if len(derived) == 1 and torch._C._current_graph_task_id() == -1 else []


def results_of(values: Any) -> list[torch.Tensor]:
    """The plain tensors in arguments or results."""
    plain = (leaf.elem if isinstance(leaf, AsyncCollectiveTensor) else leaf for leaf in leaves(values))
    return [with_memory(leaf) for leaf in plain if isinstance(leaf, torch.Tensor) and not isinstance(leaf, DTensor)]


def _transposed(args: Sequence[Any]) -> Iterator[list[Any]]:
    """The arguments of each single operation of many that are done at once."""
    for number in range(len(args[0])):
        yield [arg[number] if isinstance(arg, (list, tuple)) else arg for arg in args]


def written_by(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[torch.Tensor]:
    """The arguments that an operation writes to."""
    for number, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from results_of(args[number] if number < len(args) else kwargs.get(argument.name))


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _holds_whole(tensor: torch.Tensor) -> bool:
    """Whether all that lies in its memory are whole numbers."""
    elements = tensor.untyped_storage().nbytes() // tensor.element_size()
    try:
        flat = torch.as_strided(tensor.detach(), (elements,), (1,), 0)
        return is_exact(flat.to(torch.float64, copy=True).numpy())  # what numpy has seen cannot be resized any more
    except Exception:  # a tensor without a memory that can be read
        _LOG.debug("A tensor cannot be read, and counts as no whole numbers.", exc_info=True)
        return False


def _is_whole(tensor: torch.Tensor) -> bool:
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()


def _is_uniform(tensor: torch.Tensor) -> bool:
    """One number, however often it is repeated."""
    return tensor.numel() == 1 or tensor.untyped_storage().nbytes() == tensor.element_size()


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def user_line() -> str:
    """`file:line` of the innermost frame that is neither torch's nor ours."""
    frame = sys._getframe(1)
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def is_users(file: str) -> bool:
    """Whether a file is neither torch's nor ours."""
    return not file.startswith((*_NOT_USERS, "<"))
