"""The package: its files, and what the vendor's side says in it that follows from nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from conformance.qualify.waivers import Waiver
from conformance.records.records import CaseRecord
from conformance.records.run_record import RunRecord

STATEMENT, SYSTEM, ENVIRONMENT, SUITE = "statement.json", "system.json", "environment.json", "suite.json"
COMMAND, CASES, PROGRAMS, WAIVERS = "command.json", "cases.jsonl", "programs.json", "waivers.json"
REPORT, MANIFEST = "report.html", "manifest.json"
FILES = (STATEMENT, SYSTEM, ENVIRONMENT, SUITE, COMMAND, CASES, PROGRAMS, WAIVERS, REPORT, MANIFEST)


class Claim(BaseModel):
    """Whose device on which stack (driver, compiler, plugin, with their versions) was run."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    vendor: str = Field(min_length=1, max_length=100)
    device: str = Field(min_length=1, max_length=100)
    stack: str = Field(min_length=1, max_length=400)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a package holds that follows from nothing else: all its other files are made from this."""

    claim: Claim
    run: RunRecord
    records: tuple[CaseRecord, ...]
    waivers: tuple[Waiver, ...] = ()
