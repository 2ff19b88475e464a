"""The intermediate values of a torch step on one rank, operation by operation as they are dispatched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import _disable_current_modes

from conformance.contract.implementation import Phase
from conformance.contract.mesh import Mesh
from conformance.evidence.intermediates import FEWEST, MOST_BYTES, MOST_ELEMENTS, Exchange, Intermediate, Intermediates
from conformance.trace.operators import Collective
from conformance.trace.torch_collectives import Call, is_collective, is_receipt
from conformance.trace.torch_dataflow import results_of, written_by
from conformance.trace.torch_leaves import is_mutable
from conformance.trace.torch_lines import Lines
from conformance.trace.torch_watcher import Watcher, finish, in_backward, is_imagined

# Operations that take no more than the shape of their operand.
_SHAPED = frozenset((
    "fill", "full_like", "new_full", "new_ones", "new_zeros", "ones_like", "rand_like", "randn_like", "zero",
    "zeros_like",
))  # fmt: skip
# Memory that holds nothing yet.
_EMPTY = frozenset(("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"))
# Views of a part, which are values of their own: what reads them may read the wrong one.
_PARTS = frozenset(("chunk", "narrow", "select", "slice", "split", "split_with_sizes", "unbind"))
# Views of all elements in another order.
_TURNED = frozenset(("permute", "t", "transpose"))
_TOLD_APART = {"permute": "transpose"}  # from a message between ranks, which is called so
_FOLLOWED = ("all_reduce", "reduce_scatter", "all_gather", "all_to_all")  # messages are not waited for


Stretch = tuple[int, int, int, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """A part that nothing has read yet, and where it was cut out."""

    operation: str
    sources: tuple[int, ...]
    place: str
    phase: Phase


class ValueRecorder(Watcher):
    """`with ValueRecorder(mesh, device_mesh, rank) as recorder:` around one step of one rank.

    A tensor is known by its memory: what is written in place, or through a view, belongs to all who see it.
    """

    def __init__(self, mesh: Mesh, device_mesh: Any, rank: int) -> None:
        super().__init__(mesh, device_mesh)
        self._rank, self._bytes, self._after_backward = rank, 0, False
        self._lines, self._line = Lines(), ""
        self._values: list[Intermediate] = []
        self._exchanges: list[Exchange] = []
        self._made: dict[int, tuple[StorageWeakRef, tuple[int, ...]]] = {}  # memory -> what it was made of
        self._awaited: dict[int, tuple[StorageWeakRef, _Cut]] = {}  # memory -> the message that is to come there
        self._parts: dict[int, dict[Stretch, _Cut | int]] = {}  # memory -> where a part lies -> its value

    def operation(self, func: Any, args: Any, kwargs: Any) -> Any:
        self._line = self._lines.here()
        name = func.overloadpacket.__name__.strip("_") if isinstance(func, torch._ops.OpOverload) else ""
        given = results_of((args, kwargs))
        sources = () if name in _SHAPED else self._numbers(given)
        out = func(*args, **kwargs)
        if is_collective(func):  # a message that comes in, or something done by oneself: it may not be there yet
            self._await(results_of(args[0]) if is_receipt(func) else written_by(func, args, kwargs))
        elif name and name not in _EMPTY and not any(map(is_imagined, results_of(out))):
            held = {tensor.untyped_storage()._cdata for tensor in given}
            made = [tensor for tensor in results_of(out) if tensor.untyped_storage()._cdata not in held]  # no views
            written = list(written_by(func, args, kwargs)) if is_mutable(func) else []
            self._note(name, [*made, *written], sources, ())
            if name in _PARTS or name in _TURNED:
                self._note_parts(_TOLD_APART.get(name, name), given[0], results_of(out), sources)
        return out

    def _note_parts(self, name: str, of: torch.Tensor, parts: list[torch.Tensor], sources: tuple[int, ...]) -> None:
        """What is cut out of memory that it shares with its operand: noted when a rank uses it."""
        for part in parts:
            storage = part.untyped_storage()._cdata
            if storage in self._made and (part.numel() < of.numel() or name not in _PARTS):
                cut = _Cut(operation=name, sources=sources, place=self._line, phase=self._phase())
                self._parts.setdefault(storage, {})[_stretch(part)] = cut

    def collective(self, call: Call, what: Collective, func: Any, args: Any, kwargs: Any) -> Any:
        self._line = self._lines.here()
        sources = self._made_of(results_of(call.sent))
        given = [_flat(x) for x in call.operands] if self._is_followed(call) else []
        out = func(*args, **kwargs)
        if call.kind == "permute":
            return out  # to wait for a message is to wait for one that the other side may send after this
        with _disable_current_modes():
            finish(out)
            self._exchanged(call, what, given, out if call.outputs is None else call.outputs)
        self._note(what.kind, results_of(out if call.outputs is None else call.outputs), sources, what.axes)
        return out

    def intermediates(self, observed: Mapping[str, torch.Tensor]) -> Intermediates:
        """All that were kept, and what these local tensors were made of."""
        numbers = {name: self._numbers([tensor]) for name, tensor in observed.items()}
        return Intermediates(values=tuple(self._values), observed=numbers, exchanges=tuple(self._exchanges))

    def _is_followed(self, call: Call) -> bool:
        fits = all(x.numel() * call.size <= MOST_ELEMENTS for x in call.operands) and self._bytes <= MOST_BYTES
        return fits and call.even and call.kind in _FOLLOWED

    def _exchanged(self, call: Call, what: Collective, given: list[np.ndarray], outputs: Any) -> None:
        """Torch lays blocks one behind the other: as flat arrays, all collectives work along dim 0."""
        got = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
        for sent, came in zip(given, got, strict=False):
            received = np.concatenate([_flat(x) for x in results_of(came)] or [np.empty(0)])
            self._bytes += sent.nbytes + received.nbytes
            self._exchanges.append(
                Exchange(
                    kind=what.kind,
                    reduction=what.reduction,
                    axes=what.axes,
                    place=self._line,
                    phase=self._phase(),
                    given={self._rank: sent},
                    got={self._rank: received},
                )
            )

    def _note(self, name: str, results: list[torch.Tensor], sources: tuple[int, ...], axes: tuple[str, ...]) -> None:
        for result in {id(result): result for result in results}.values():
            number, storage = self._kept(name, result, sources, axes), result.untyped_storage()
            made_of = set(sources if number is None else (number,))
            if result.numel() * result.element_size() < storage.nbytes():  # the rest is what it was
                made_of.update(self._numbers([result]))
            self._made[storage._cdata] = (StorageWeakRef(storage), tuple(sorted(made_of)))
            self._parts.pop(storage._cdata, None)

    def _await(self, tensors: Iterable[torch.Tensor]) -> None:
        """What a message brings into these is noted when it is used: it may not be there yet."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._made.pop(storage._cdata, None)
            self._awaited[storage._cdata] = (
                StorageWeakRef(storage),
                _Cut(operation="permute", sources=(), place=self._line, phase=self._phase()),
            )

    def _kept(
        self, name: str, result: torch.Tensor, sources: tuple[int, ...], axes: tuple[str, ...], cut: _Cut | None = None
    ) -> int | None:
        whole = not result.is_floating_point()
        if (whole and not _is_index(result)) or result.numel() > MOST_ELEMENTS or self._bytes > MOST_BYTES:
            return None
        with _disable_current_modes():
            value: np.ndarray = result.detach().to(torch.float64, copy=True).contiguous().numpy()
        self._bytes += value.nbytes
        number = len(self._values)
        self._values.append(
            Intermediate(
                number=number,
                operation=name,
                place=self._line if cut is None else cut.place,
                phase=self._phase() if cut is None else cut.phase,
                sources=sources,
                axes=axes,
                dtype=str(result.dtype).removeprefix("torch."),
                values={self._rank: value},
            )
        )
        return number

    def _phase(self) -> Phase:
        self._after_backward |= in_backward()
        return "backward" if in_backward() else "update" if self._after_backward else "forward"

    def _numbers(self, tensors: list[torch.Tensor]) -> tuple[int, ...]:
        numbers: dict[int, None] = {}  # in the order of the operands
        for tensor in tensors:
            storage = tensor.untyped_storage()._cdata
            self._arrived(storage, tensor)
            known = self._made.get(storage)
            if known is not None and not known[0].expired():
                part = self._part(storage, tensor)
                numbers.update(dict.fromkeys(known[1] if part is None else (part,)))
        return tuple(numbers)

    def _made_of(self, blocks: list[torch.Tensor]) -> tuple[int, ...]:
        """The numbers of what is handed over block by block; that of the one value of which the blocks are all parts.

        So a partial sum that is handed over in parts is known for what it is.
        """
        numbers, size = self._numbers(blocks), sum(block.numel() for block in blocks)
        cut = {self._cut_from(number) for number in numbers} if len(numbers) == len(blocks) > 1 else set()
        whole = cut.pop() if len(cut) == 1 else None
        return (whole,) if whole is not None and self._values[whole].values[self._rank].size == size else numbers

    def _cut_from(self, number: int) -> int | None:
        """The number of the value of which this is a part, or a copy of a part."""
        part = self._values[number]
        while part.operation == "clone" and len(part.sources) == 1:
            part = self._values[part.sources[0]]
        return part.sources[0] if part.operation in _PARTS and len(part.sources) == 1 else None

    def _arrived(self, storage: int, tensor: torch.Tensor) -> None:
        """Notes what a message has brought, where this is the first to read it."""
        memory, message = self._awaited.pop(storage, (None, None))
        if memory is not None and message is not None and not memory.expired():
            number = self._kept(message.operation, tensor, (), (), message)
            if number is not None:
                self._made[storage] = (memory, (number,))

    def _part(self, storage: int, tensor: torch.Tensor) -> int | None:
        """The value of a part of memory; None where it is no part that was cut out."""
        parts, where = self._parts.get(storage, {}), _stretch(tensor)
        part = parts.get(where)
        if isinstance(part, _Cut):
            part = self._kept(part.operation, tensor, part.sources, (), part)
            if part is not None:
                parts[where] = part
        return part


def _is_index(x: torch.Tensor) -> bool:
    """Whether whole numbers may say where something is: not a mask, not one number."""
    return x.dtype in (torch.int32, torch.int64) and x.numel() >= FEWEST


def _stretch(x: torch.Tensor) -> Stretch:
    """What a view keeps of the part that it sees, in any shape: the first element, how many, how far, in what order."""
    strides = [(size, stride) for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1]
    reach = sum((size - 1) * stride for size, stride in strides)
    steps = [stride for _, stride in strides]
    turned = steps != sorted(steps, reverse=True)
    return int(x.storage_offset()), x.numel(), reach, tuple(strides) if turned else ()


def _flat(x: torch.Tensor) -> np.ndarray:
    with _disable_current_modes():
        value: np.ndarray = x.detach().to(torch.float64, copy=True).flatten().numpy()
    return value
