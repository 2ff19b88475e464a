"""The record of a run: which code ran where on what. One that was resumed has several parts; a case names its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Protocol

from pydantic import Field

from conformance.records.base import SCHEMA_VERSION, Number, Record, Verdict


class PartRecord(Record):
    """One call of `shardproof run`. `files` are the implementations given as files, and the SHA-256 of each."""

    version: str
    hash: str
    command: list[str]
    selection: dict[str, Any] = Field(default_factory=dict)
    checks: list[str] = Field(default_factory=list)
    packages: dict[str, str | None] = Field(default_factory=dict)
    machine: dict[str, Any] = Field(default_factory=dict)
    flags: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    started: str
    finished: str | None = None
    seconds: Number = 0.0


class RunRecord(Record):
    """What run.json holds: which code ran where on what, and the totals."""

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    version: str
    hash: str
    command: list[str]
    selection: dict[str, Any] = Field(default_factory=dict)
    checks: list[str] = Field(default_factory=list)
    profile: str | None = None
    packages: dict[str, str | None] = Field(default_factory=dict)
    machine: dict[str, Any] = Field(default_factory=dict)
    devices: str = "emulated"
    flags: dict[str, str] = Field(default_factory=dict)
    seeds: list[int] = Field(default_factory=list)
    started: str
    finished: str | None = None
    interrupted: bool = False
    planned: int = 0
    totals: dict[Verdict, int] = Field(default_factory=dict)
    unexpected: int = 0
    seconds: Number = 0.0
    overhead: Number | None = Field(default=None, description="share of the time outside place, compile, step, collect")
    parts: tuple[PartRecord, ...] = Field(
        default=(), description="one for each call that wrote here; the last one is also above"
    )

    def part(self) -> PartRecord:
        """What this record says of the call that wrote it."""
        return PartRecord.model_validate(
            {name: getattr(self, name) for name in PartRecord.model_fields if name != "files"}
        )


class Numbered(Protocol):
    """A record that names its part."""

    @property
    def part(self) -> int: ...


def mixture(parts: Sequence[PartRecord], records: Iterable[Numbered]) -> str:
    """A sentence where the records of a run come from parts that are not alike, else empty."""
    counts = Counter(record.part for record in records if record.part < len(parts))
    used = sorted(counts)
    differing = list(dict.fromkeys(name for number in used[1:] for name in _differing(parts[used[0]], parts[number])))
    if not differing:
        return ""
    shares = "; ".join(
        f"{counts[number]} case{'s' if counts[number] > 1 else ''} on {parts[number].started} by version "
        f"{parts[number].version}, code {parts[number].hash[:8]}"
        for number in used
    )
    return f"This is a mixed run: {shares}. What differs: {', '.join(differing)}."


def _differing(part: PartRecord, other: PartRecord) -> Iterator[str]:
    if part.version != other.version:
        yield "the version of shardproof"
    if part.hash != other.hash:
        yield "the code of shardproof or of a suite"
    if part.checks != other.checks:
        yield "the checks that were asked for"
    for title, before, after in (("", part.packages, other.packages), ("", part.flags, other.flags)):
        yield from (f"{title}{name} ({before.get(name)}, then {after.get(name)})" for name in _changed(before, after))
    known = part.files.keys() & other.files.keys()
    yield from (f"the file {name}" for name in sorted(known) if part.files[name] != other.files[name])
    yield from (f"the machine's {name.replace('_', ' ')}" for name in _changed(part.machine, other.machine))


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)]
