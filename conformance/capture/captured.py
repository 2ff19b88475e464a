"""A captured run: what all its ranks hold at each moment, laid against the recorded run of one device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from conformance.capture.batches import rows_given
from conformance.capture.pieces import Piece, pieces
from conformance.capture.placing import Rows, placed
from conformance.capture.records import RankRecord, read_ranks
from conformance.capture.reference_run import ReferenceRun
from conformance.cases.usage import UsageError
from conformance.contract.mesh import Mesh
from conformance.evidence.evidence import Observations, Observed

BATCH = "batch/"


@dataclass(frozen=True, kw_only=True)
class CapturedRun:
    """`ended` says which ranks have ended before the last step, a sentence; empty where none has."""

    folder: Path
    mesh: Mesh
    ranks: tuple[RankRecord, ...]
    initial: Observations
    steps: tuple[Observations, ...]
    batch: Observations
    ended: str = ""


def read_captured(folder: Path, recorded: ReferenceRun) -> CapturedRun:
    """UsageError, in one sentence, for a run that is not whole, or is none of the recorded trainer."""
    ranks = read_ranks(folder)
    mesh = Mesh(sizes=tuple(ranks[0].mesh.items()))
    _comparable(folder, ranks[0], recorded)
    finished = {rank.process: len(rank.moments) - 1 for rank in ranks}
    steps, ended = min(finished.values()), ""
    if steps < recorded.steps:
        ended = _ended(folder, ranks, finished, recorded.steps)
    if steps < 0:
        raise UsageError(f"'{folder}' has nothing of some of its ranks: they ended before they wrote their parameters.")
    moments = [_observed(folder, ranks, moment, recorded, mesh) for moment in range(min(steps, recorded.steps) + 1)]
    initial = moments[0]
    owed = {name: holders(observed) for name, observed in initial.items()}
    batch = _taken_out(moments[1:])
    return CapturedRun(
        folder=folder,
        mesh=mesh,
        ranks=tuple(ranks),
        initial=initial,
        steps=tuple(_owing(step, owed) for step in moments[1:]),
        batch=batch,
        ended=ended,
    )


def _taken_out(steps: Sequence[Observations]) -> Observations:
    """What each step was given, which is no longer among its own observations after this."""
    batch: Observations = {}
    for number, seen in enumerate(steps, start=1):
        batch |= {f"step {number}: {key.removeprefix(BATCH)}": seen.pop(key) for key in list(seen) if _is_batch(key)}
    return batch


def _is_batch(name: str) -> bool:
    return name.startswith(BATCH)


def holders(observed: Observed) -> tuple[int, ...]:
    """The ranks that hold at least one element."""
    return tuple(sorted(rank for block in observed.blocks if block.value.size for rank in block.ranks))


def _comparable(folder: Path, rank: RankRecord, recorded: ReferenceRun) -> None:
    of_record = recorded.rank.dtype
    if (rank.dtype == "float64") != (of_record == "float64"):
        raise UsageError(
            f"'{folder}' ran in {rank.dtype} and the recording '{recorded.folder}' in {of_record}: record with "
            f"--dtype {rank.dtype}, or capture in {of_record}."
        )
    if rank.member or rank.framework != recorded.rank.framework:
        raise UsageError(
            f"'{folder}' is no captured run of its own: it is a member of a recording, or of another framework."
        )


def _ended(folder: Path, ranks: list[RankRecord], finished: Mapping[int, int], wanted: int) -> str:
    """Which ranks have less than the recording, of a run that broke; UsageError for one that was asked for less."""
    from conformance.records.formatting import ranks as spoken

    if all(rank.finished for rank in ranks):
        raise UsageError(
            f"'{folder}' has {min(finished.values())} steps and the recording {wanted}: capture as many as it has."
        )
    short = [process for process, steps in finished.items() if steps < wanted]
    return f"In '{folder}' {spoken(short)} ended before step {wanted} was over"


def _observed(folder: Path, ranks: list[RankRecord], moment: int, recorded: ReferenceRun, mesh: Mesh) -> Observations:
    """What all ranks hold at the start (moment 0) or of a step; outputs that the recording has not are left out."""
    shapes, whole = recorded.shapes(moment), recorded.batch(moment)
    held = [piece for rank in ranks for piece in pieces(folder, rank, rank.moments[moment], shapes)]
    given = [piece for piece in held if _is_batch(piece.tensor)]
    rows: Rows = rows_given(moment, given, whole, mesh, str(folder)) if whole else {}
    tensors: dict[str, list[Piece]] = {}
    for piece in held:
        tensors.setdefault(piece.tensor, []).append(piece)
    return {
        name: placed(own, shapes.get(name, own[0].shape), mesh, rows)
        for name, own in tensors.items()
        if name in shapes or not name.startswith(("activations/", BATCH))
    }


def _owing(step: Observations, owed: Mapping[str, tuple[int, ...]]) -> Observations:
    """Who had a parameter at the start owes its gradient, its slots and itself after each step.

    Where no rank has the slots of all its parameters the optimizer lies in parts, and each rank owes its own.
    """
    owing = {name: owed.get(f"parameters/{_own(name)}", ()) for name in step}
    slots = {name: ranks for name, ranks in owing.items() if name.startswith("optimizer/") and ranks}
    held = {name: {rank for block in step[name].blocks for rank in block.ranks} for name in slots}
    lacking = {rank for name, ranks in slots.items() for rank in ranks if rank not in held[name]}
    if slots and lacking == {rank for ranks in slots.values() for rank in ranks}:
        owing |= {name: tuple(sorted(held[name])) for name in slots}
    return {name: replace(observed, owed_by=owing[name]) for name, observed in step.items()}


def _own(name: str) -> str:
    return name.split("/", 2 if name.startswith("optimizer/") else 1)[-1]
