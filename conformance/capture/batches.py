"""Batches: which rows of the recorded run's batch each forward call of a captured run was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np

from conformance.capture.pieces import Piece
from conformance.capture.placing import Rows
from conformance.cases.usage import UsageError
from conformance.contract.mesh import Mesh
from conformance.contract.placements import Shard, local_index
from conformance.contract.roles import role

PIPELINE = "pipeline"
Batch = Mapping[str, np.ndarray]  # key -> what one device was given in the step


def rows_given(step: int, given: Sequence[Piece], batch: Batch, mesh: Mesh, folder: str) -> Rows:
    """(position, call) -> rows, by what they hold. UsageError where a run was given what the recorded one was not.

    Rows that hold the same are taken in order, by each device for itself: which of them it was does not matter.
    """
    calls = _calls(given, batch)
    if given and not calls:
        raise UsageError(
            f"'{folder}' was given {_keys(piece.tensor for piece in given)} and the recorded run "
            f"{_keys(batch)}: give both their inputs by the same names."
        )
    rows: dict[tuple[int, int], np.ndarray] = {}
    taken: dict[int, set[int]] = {}
    for where in sorted(calls):
        used = taken.setdefault(where[0], set())
        call_rows = _rows_of_call(calls[where], batch, mesh, used)
        if call_rows is None:
            raise UsageError(
                f"'{folder}' was given another batch than the recorded run in step {step}: rows of "
                f"'{calls[where][0].tensor}' at mesh position {where[0]} are not among its rows."
            )
        rows[where] = call_rows
    return rows | _handed_on(rows, mesh)


def _calls(given: Iterable[Piece], batch: Batch) -> dict[tuple[int, int], list[Piece]]:
    """(position, call) -> what that forward call was given of the batch."""
    calls: dict[tuple[int, int], list[Piece]] = {}
    for piece in given:
        if piece.tensor.partition("/")[2] in batch:
            calls.setdefault((piece.position, piece.call or 0), []).append(piece)
    return calls


def _handed_on(rows: Rows, mesh: Mesh) -> dict[tuple[int, int], np.ndarray]:
    """Later stages of a pipeline are given no batch: their calls are those of the first stage, in its order."""
    fed = {position for position, _ in rows}
    later: dict[tuple[int, int], np.ndarray] = {}
    for axis in (axis for axis in mesh.axes if role(axis, {}) == PIPELINE):
        for group in mesh.groups(axis):
            first = [rank for rank in group if rank in fed]
            for position in group if len(first) == 1 else ():
                later |= {(position, call): call_rows for (rank, call), call_rows in rows.items() if rank == first[0]}
    return later


def _keys(names: Iterable[str]) -> str:
    return ", ".join(f"'{name.rpartition('/')[2]}'" for name in dict.fromkeys(names))


def _rows_of_call(pieces: Sequence[Piece], batch: Batch, mesh: Mesh, used: set[int]) -> np.ndarray | None:
    """The rows that hold the same in all keys of one forward call; None where one is not there."""
    keys = [piece.tensor.partition("/")[2] for piece in pieces]
    for part in _parts(pieces[0].value.shape, batch[keys[0]].shape, mesh, pieces[0].position):
        wholes = [_cut(batch[key], part) for key in keys]
        if all(x.shape[1:] == piece.value.shape[1:] for x, piece in zip(wholes, pieces, strict=True)):
            matched = _matched([piece.value for piece in pieces], wholes, used)
            if matched is not None:
                return matched
    return None


def _parts(local: Sequence[int], whole: Sequence[int], mesh: Mesh, position: int) -> list[slice]:
    """What of dim 1 a device may have been given: all of it, or its share where the sequence is divided."""
    if len(local) < 2 or local[1] == whole[1]:
        return [slice(None)]
    wide = [axis for axis in mesh.axes if mesh.size(axis) > 1]
    sets = [axes for number in range(1, len(wide) + 1) for axes in combinations(wide, number)]
    return [local_index((whole[1],), {axis: Shard(0) for axis in axes}, mesh, position)[0] for axes in sets]


def _cut(whole: np.ndarray, part: slice) -> np.ndarray:
    return whole if part == slice(None) or whole.ndim < 2 else whole[:, part]


def _matched(local: Sequence[np.ndarray], whole: Sequence[np.ndarray], used: set[int]) -> np.ndarray | None:
    places: dict[tuple[bytes, ...], list[int]] = {}
    for row in range(len(whole[0])):
        places.setdefault(_content(whole, row), []).append(row)
    chosen = []
    for row in range(len(local[0])):
        same = places.get(_content(local, row))
        if same is None:
            return None
        chosen.append(next((place for place in same if place not in used), same[0]))
        used.add(chosen[-1])
    return np.array(chosen, dtype=np.int64)


def _content(arrays: Sequence[np.ndarray], row: int) -> tuple[bytes, ...]:
    """As float32 where it is real: the recorded run may have it in float64."""
    rows = (array[row] for array in arrays)
    return tuple((x.astype(np.float32) if x.dtype.kind == "f" else x.astype(np.int64)).tobytes() for x in rows)
