"""Records: what is written to `cases.jsonl` (one CaseRecord per line) and `run.json` (one RunRecord), and read again.

`python -m conformance.records.records docs/record.schema.json` exports the JSON Schema. Numbers that JSON cannot write
are the strings "Infinity", "-Infinity" and "NaN".
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator
from pydantic.json_schema import models_json_schema

from conformance.cases.case import DTYPES, Case, Mutation
from conformance.cases.usage import choose
from conformance.contract.implementation import FRAMEWORKS
from conformance.contract.mesh import Mesh
from conformance.contract.timeline import Bar, Lane, Timeline
from conformance.records.base import SCHEMA_VERSION, Devices, Number, Record, Verdict
from conformance.records.check_record import CheckRecord, WorstRecord, check_record, check_result
from conformance.records.results import (
    VERDICTS,
    CaseResult,
    is_expected,
    spoken,
)
from conformance.records.run_record import RunRecord

NOT_HERE = "not here"


class BarRecord(Record):
    """One piece of work of a timeline, in its unit of time."""

    start: Number
    end: Number
    kind: str
    label: str


class LaneRecord(Record):
    """The work of one rank."""

    name: str
    bars: tuple[BarRecord, ...]


class TimelineRecord(Record):
    """What each rank planned to do when."""

    title: str
    unit: str
    lanes: tuple[LaneRecord, ...]

    def timeline(self) -> Timeline:
        """The timeline that was recorded."""
        lanes = tuple(Lane(name=lane.name, bars=tuple(Bar(**dict(bar)) for bar in lane.bars)) for lane in self.lanes)
        return Timeline(title=self.title, unit=self.unit, lanes=lanes)


class CaseRecord(Record):
    """One judged case: a line of cases.jsonl."""

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    case: str
    suite: str
    contract: str
    implementation: str
    framework: str
    mesh: dict[str, int]
    device_order: str = "canonical"
    dtype: str
    seed: int
    devices: Devices
    fault: str | None = None
    mutation: str | None = None
    expected: Verdict = "pass"
    verdict: Verdict
    checks: tuple[CheckRecord, ...] = ()
    seconds: Number = 0.0
    phases: dict[str, Number] = Field(default_factory=dict)
    not_held: tuple[str, ...] = Field(default=(), description="what no check could hold the case to, and why")
    reason: str = ""
    stack: str = ""
    output: str = ""
    reproduce: str = ""
    timeline: TimelineRecord | None = None
    missing: str | None = Field(default=None, description="the framework that is not installed: the case was not run")
    alone: str = Field(default="", description="what came out when it was run again, alone in fresh processes")
    after: tuple[str, ...] = Field(default=(), description="ids of the earlier cases without which it does not fail")
    part: int = Field(default=0, ge=0, description="which part of a resumed run judged it: a number in `parts`")
    waived: Verdict | None = Field(default=None, description="the verdict that a waiver of the suite sets aside")

    @model_validator(mode="after")
    def _is_a_case(self) -> CaseRecord:
        Mesh(sizes=tuple(self.mesh.items()), order=self.device_order)
        return self

    @property
    def as_expected(self) -> bool:
        return self.missing is not None or is_expected(self.verdict, self.expected, self.devices)

    @property
    def shows_something(self) -> bool:
        """Whether it ran here, and was not refused as any case may be on one device in place of a mesh."""
        return self.missing is None and (self.devices, self.verdict) != ("single", "unsupported")

    @property
    def outcome(self) -> str:
        """The verdict, or `not here` where the framework is missing."""
        return self.verdict if self.missing is None else NOT_HERE

    @property
    def spoken(self) -> str:
        return spoken(self.verdict, self.not_held)

    @property
    def failing(self) -> tuple[CheckRecord, ...]:
        return tuple(check for check in self.checks if check.verdict == "fail")

    @property
    def worst(self) -> WorstRecord | None:
        """The worst comparison of all checks that bound an error."""
        held = [check.worst for check in self.checks if check.worst is not None and check.ratios]
        return max(held, key=lambda worst: worst.ratio, default=None)

    @property
    def layout(self) -> Mesh:
        return Mesh(sizes=tuple(self.mesh.items()), order=self.device_order)

    @classmethod
    def of(cls, result: CaseResult, reproduce: str = "", *, figures: bool = False) -> CaseRecord:
        """The record of a result; with `figures`, of every tensor that was compared."""
        case = result.case
        return cls(
            case=case.id,
            suite=case.suite,
            contract=case.contract,
            implementation=case.implementation,
            framework=result.framework,
            mesh=dict(case.mesh.sizes),
            device_order=case.mesh.order,
            dtype=case.dtype,
            seed=case.seed,
            devices=case.devices,
            fault=case.fault,
            mutation=str(case.mutation) if case.mutation else None,
            expected=case.expect,
            verdict=result.verdict,
            checks=tuple(check_record(check, figures) for check in result.checks),
            not_held=result.not_held,
            seconds=result.seconds,
            phases=dict(result.phases),
            reason=result.reason,
            stack=result.stack,
            output=result.output,
            reproduce=reproduce or result.reproduce,
            timeline=TimelineRecord.model_validate(asdict(result.timeline)) if result.timeline else None,
            missing=result.missing,
            alone=result.alone,
            after=result.after,
        )

    def result(self) -> CaseResult:
        """The result that was recorded."""
        return CaseResult(
            case=self._described(),
            framework=choose("framework", self.framework, FRAMEWORKS),
            verdict=choose("verdict", self.verdict, VERDICTS),
            seconds=self.seconds,
            phases=self.phases,
            checks=tuple(check_result(check) for check in self.checks),
            reason=self.reason,
            stack=self.stack,
            output=self.output,
            reproduce=self.reproduce,
            timeline=self.timeline.timeline() if self.timeline else None,
            missing=self.missing,
            alone=self.alone,
            after=self.after,
        )

    def _described(self) -> Case:
        """The case that was judged."""
        operator, _, site = (self.mutation or "").rpartition("@")
        return Case(
            contract=self.contract,
            implementation=self.implementation,
            mesh=self.layout,
            dtype=choose("dtype", self.dtype, DTYPES),
            seed=self.seed,
            devices=self.devices,
            fault=self.fault,
            expect=choose("verdict", self.expected, VERDICTS),
            mutation=Mutation(operator=operator, site=int(site)) if self.mutation else None,
        )


def schema() -> str:
    """The JSON Schema of both records, as text."""
    refs, definitions = models_json_schema(
        [(CaseRecord, "serialization"), (RunRecord, "serialization")],
        title="shardproof records",
        description=f"Version {SCHEMA_VERSION}. A line of cases.jsonl is a CaseRecord, run.json is a RunRecord.",
    )
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", **definitions}
    return json.dumps(head | {"anyOf": list(refs.values())}, indent=2) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema())
