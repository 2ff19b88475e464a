"""Pieces: what each device of a captured run holds of each tensor, under the names of the recorded run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from conformance.capture.files import read_tensors
from conformance.capture.names import renamed
from conformance.capture.records import BlockRecord, MomentRecord, RankRecord, TensorRecord
from conformance.cases.usage import UsageError
from conformance.contract.placements import Placements, read_placements

NAMED = ("parameters/", "gradients/", "clipped/", "optimizer/", "activations/", "outputs/")
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """The block of one tensor on one device, from one forward call.

    shape       the whole shape that its framework tells; that of the block where it tells none
    index       per dim of `shape`, the elements that it holds; None where they are not known
    placements  what was said of it besides
    """

    tensor: str
    position: int
    dtype: str
    shape: tuple[int, ...]
    value: np.ndarray
    index: tuple[np.ndarray, ...] | None = None
    partial: tuple[str, ...] = ()
    placements: Placements | None = None
    call: int | None = None


def pieces(folder: Path, rank: RankRecord, moment: MomentRecord, shapes: Shapes) -> Iterator[Piece]:
    """Those of one process and one moment; a fused tensor is taken apart by the `shapes` of its parts."""
    held = read_tensors(folder / moment.file)
    for stored, record in moment.tensors.items():
        kind, own = _split(stored.partition("#")[0])
        names = tuple(f"{kind}{name}" for name in renamed(own, rank.names)) if own else (kind,)
        for block in record.blocks:
            piece = _piece(names[0], record, block, _wide(held, block, folder / moment.file))
            yield from [piece] if len(names) == 1 else _apart(piece, names, shapes)


def _split(name: str) -> tuple[str, str]:
    """The kind with its slash, `optimizer/exp_avg/`, and the name of the parameter or module, where there is one."""
    if not name.startswith(NAMED):
        return name, ""
    *kind, own = name.split("/", 2 if name.startswith("optimizer/") else 1)
    return "/".join([*kind, ""]), own


def _wide(held: Mapping[str, np.ndarray], block: BlockRecord, path: Path) -> np.ndarray:
    """bfloat16 and float8 as float32, which holds them exactly."""
    if block.key not in held:
        raise UsageError(f"'{path}' lacks '{block.key}', which its record names: capture the run again.")
    value = held[block.key]
    return value.astype(np.float32) if value.dtype.kind == "V" else value


def _piece(tensor: str, record: TensorRecord, block: BlockRecord, value: np.ndarray) -> Piece:
    index = None
    if block.index is not None:
        index = tuple(np.concatenate([np.arange(0), *(np.arange(*run) for run in runs)]) for runs in block.index)
    return Piece(
        tensor=tensor,
        position=block.position,
        dtype=record.dtype,
        shape=record.shape,
        value=value,
        index=index,
        partial=block.partial,
        placements=None if record.placements is None else read_placements(record.placements),
        call=record.call,
    )


def _apart(fused: Piece, names: Sequence[str], shapes: Shapes) -> Iterator[Piece]:
    """The parts of a fused tensor, which lie one after the other along dim 0.

    Where its framework tells which elements a device holds, by their places; else each device holds its share of every
    part, one after the other, as Megatron's layers do.
    """
    unknown = next((name for name in names if name not in shapes), None)
    if unknown is not None:
        raise UsageError(f"A fused tensor is said to hold '{unknown}', which the recorded run does not have.")
    if not fused.value.ndim:
        yield from (replace(fused, tensor=name) for name in names)
        return
    sizes = [shapes[name][0] for name in names]
    if fused.index is not None:
        yield from _by_place(fused, names, sizes)
        return
    local, total = fused.value.shape[0], sum(sizes)
    if any(size * local % total for size in sizes):
        raise UsageError(f"{local} rows of a fused tensor cannot be shared out as {sizes}: give its parts apart.")
    starts = np.cumsum([0, *(size * local // total for size in sizes)])
    for name, start, stop in zip(names, starts, starts[1:], strict=False):
        value = fused.value[start:stop]
        yield replace(fused, tensor=name, value=value, shape=value.shape)


def _by_place(fused: Piece, names: Sequence[str], sizes: Sequence[int]) -> Iterator[Piece]:
    assert fused.index is not None
    rows, first = fused.index[0], 0
    for name, size in zip(names, sizes, strict=True):
        mine = (rows >= first) & (rows < first + size)
        index = (rows[mine] - first, *fused.index[1:])
        yield replace(fused, tensor=name, value=fused.value[mine], shape=(size, *fused.shape[1:]), index=index)
        first += size
