"""The record of one process of a captured run: `rank-00003.json`, written anew and whole after each moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from conformance.cases.usage import UsageError
from conformance.contract.mesh import Mesh
from conformance.records.base import Record
from conformance.records.files import write_whole

FORMAT = 1
UNKNOWN = Mesh.parse("unknown=1")
Runs = list[tuple[int, int]]  # elements [start, stop), one after the other


class BlockRecord(Record):
    """What one device holds of a tensor.

    key        of the bytes, in the safetensors file of the moment
    position   of the device on the mesh, counted row by row
    index      per dim of `TensorRecord.shape`, the elements that it holds; None where they are not known
    partial    mesh axes over which it still waits for a sum
    """

    key: str
    position: int
    index: list[Runs] | None = None
    partial: tuple[str, ...] = ()


class TensorRecord(Record):
    """A tensor as one process has it.

    shape       what its framework calls its whole shape; that of the local block where nothing is known
    placements  mesh axis -> R, P or S(dim), where they were said by somebody, and not by the array itself
    call        which forward call of the step made it, from 0; None for what is not made by one
    """

    shape: tuple[int, ...]
    dtype: str
    blocks: tuple[BlockRecord, ...]
    placements: dict[str, str] | None = None
    call: int | None = None


class MomentRecord(Record):
    """`start`, or `step 1` and later: the file of the tensors, and each of them in the order in which it was seen."""

    moment: str
    file: str
    bytes: int = 0
    tensors: dict[str, TensorRecord]


class CostRecord(Record):
    """Seconds of all captured steps, and what the capture took of them."""

    steps: float = 0.0
    capture: float = 0.0


class RankRecord(Record):
    """One process: who it is, what it was asked for, what it has written.

    run        the same in all processes of one launch
    mesh       axis -> size, outermost first; `positions` are those of the devices of this process
    lower      what a float64 run has rounded to fewer bits: the operation, its dtype, its place
    """

    format: Annotated[int, Field(ge=1, le=FORMAT)] = FORMAT
    run: str
    framework: str
    process: int
    processes: int
    mesh: dict[str, int]
    positions: tuple[int, ...]
    command: list[str]
    member: int = 0
    dtype: str
    given_dtype: str
    steps: int
    recipe: dict[str, Any] = Field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    placements: dict[str, dict[str, str]] = Field(default_factory=dict)
    replicated_axes: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    lower: list[dict[str, str]] = Field(default_factory=list)
    moments: tuple[MomentRecord, ...] = ()
    cost: CostRecord = CostRecord()
    finished: bool = False

    def write(self, folder: Path) -> None:
        write_whole(
            folder / f"{name(self.process)}.json", self.model_dump_json(exclude_unset=True, exclude_none=True) + "\n"
        )


def name(process: int) -> str:
    return f"rank-{process:05d}"


def read_ranks(folder: Path) -> list[RankRecord]:
    """Those of a captured run, each process once; UsageError in one sentence where they are not all of one launch."""
    if not folder.is_dir():
        raise UsageError(f"There is no captured run '{folder}'.")
    paths = sorted(folder.glob("rank-*.json"))
    if not paths:
        raise UsageError(f"'{folder}' holds no captured run: no rank has written its record there.")
    ranks = [_read(path) for path in paths]
    processes = ranks[0].processes
    missing = sorted(set(range(processes)) - {rank.process for rank in ranks})
    if missing:
        raise UsageError(f"'{folder}' has no record of {_spoken(missing)} of {processes}: nothing can be said without.")
    if len({rank.run for rank in ranks}) > 1 or len(ranks) != processes:
        raise UsageError(f"'{folder}' mixes the ranks of several launches: empty it and capture again.")
    return ranks


def said_mesh(folder: Path) -> Mesh:
    """The mesh of a run that is not whole, by the first of its ranks that says it; UNKNOWN where none does."""
    for path in sorted(folder.glob("rank-*.json")):
        try:
            return Mesh(sizes=tuple(_read(path).mesh.items()))
        except (UsageError, ValueError):
            continue
    return UNKNOWN


def _read(path: Path) -> RankRecord:
    try:
        return RankRecord.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as wrong:
        said = wrong.errors(include_url=False)[0]["msg"] if isinstance(wrong, ValidationError) else wrong
        raise UsageError(f"'{path}' is no record of a captured rank ({said}).") from None


def _spoken(ranks: Sequence[int]) -> str:
    from conformance.records.formatting import ranks as spoken

    return spoken(ranks)
