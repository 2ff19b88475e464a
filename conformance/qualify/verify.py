"""Verify: whether a package holds what it says, on any machine with the same version of the suite and no framework.

What follows from its contents is made again and must be the same bytes; every verdict is decided again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from conformance.cases.case import Case
from conformance.cases.usage import UsageError
from conformance.qualify import archive, package
from conformance.qualify.archive import Refused
from conformance.qualify.derived import files, manifest
from conformance.qualify.must_pass import PROFILE, REHEARSAL, SEEDS, of_run
from conformance.qualify.package import Claim, Contents
from conformance.qualify.rejudge import complaints, lost_tensors
from conformance.qualify.strict import NotStrict, strict_json
from conformance.qualify.waivers import PUBLIC_KEY, Waived, complaint, read_waivers
from conformance.records import environment
from conformance.records.records import CaseRecord
from conformance.records.run_record import PartRecord, RunRecord, mixture

HOST_DEVICES = re.compile(r"--xla_force_host_platform_device_count=\d+")  # how many devices the CPU stands in for
FLAGS = ("JAX_PLATFORMS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")  # say where to run; others change what is computed
MOST_REASONS = 20  # that are printed
OPTIONS = ("suites", "profile", "framework", "devices")


def verify(path: Path, *, key: str = PUBLIC_KEY, day: date | None = None) -> Contents:
    """The contents of a package that holds; Refused with every reason otherwise."""
    given = archive.read(path, package.FILES)
    contents = _contents(given)
    reasons = list(_reasons(given, contents, key, day or datetime.now(UTC).date()))
    if reasons:
        more = [f"... and {len(reasons) - MOST_REASONS} more reasons."] if len(reasons) > MOST_REASONS else []
        raise Refused("\n".join([*reasons[:MOST_REASONS], *more]))
    return contents


def _contents(given: Mapping[str, bytes]) -> Contents:
    """What the files say; Refused at the first that cannot be read."""
    values = {name: _value(name, content) for name, content in given.items() if name.endswith(".json")}
    try:
        claim = Claim.model_validate({name: values[package.SYSTEM].get(name) for name in Claim.model_fields})
        run = RunRecord.model_validate(values[package.COMMAND])
        records = tuple(_records(given[package.CASES]))
        waivers = read_waivers(given[package.WAIVERS], package.WAIVERS)
    except (ValidationError, AttributeError) as wrong:
        raise Refused(f"The package cannot be read: {' '.join(str(wrong).split())[:300]}.") from None
    except UsageError as wrong:
        raise Refused(str(wrong)) from None
    return Contents(claim=claim, run=run, records=records, waivers=waivers)


def _value(name: str, content: bytes) -> Any:
    try:
        return strict_json(content)
    except NotStrict as wrong:
        raise Refused(f"'{name}' is refused: {wrong}.") from None


def _records(content: bytes) -> Iterator[CaseRecord]:
    for number, line in enumerate(content.splitlines(), start=1):
        value = _value(f"{package.CASES}, line {number}", line)
        try:
            record = CaseRecord.model_validate(value)
        except ValidationError as wrong:
            first = wrong.errors(include_url=False)[0]
            raise Refused(f"'{package.CASES}', line {number} is no record: {first['msg']}.") from None
        if record.model_dump_json().encode() != line:
            raise Refused(f"'{package.CASES}', line {number} is not as records are written: it says more or less.")
        yield record


def _reasons(given: Mapping[str, bytes], contents: Contents, key: str, day: date) -> Iterator[str]:
    if given[package.MANIFEST] != manifest({name: given[name] for name in package.FILES[:-1]}):
        yield "The manifest does not fit the files: one was changed after the package was made."
    before = list(_of_suite(contents.run))
    yield from before
    if before:
        return  # what another version means cannot be judged by this one
    yield from _of_options(contents.run)
    yield from _of_devices(contents)
    yield from _of_cases(contents)
    yield from _of_waivers(contents, key, day)
    yield from _of_derived(given, contents)


@cache
def _here() -> tuple[str | None, str]:
    """Version and content hash of the suite that verifies; its code does not change while it runs."""
    return environment.packages()["shardproof"], environment.content_hash()


def _of_suite(run: RunRecord) -> Iterator[str]:
    here, code = _here()
    if (run.version, run.hash) != (here, code):
        yield (
            f"It was judged by version {run.version}, code {run.hash[:8]}; here is version {here}, code {code[:8]}: "
            "verify it with the version that it names."
        )


def _of_options(run: RunRecord) -> Iterator[str]:
    if run.finished is None or run.interrupted:
        yield "The run did not end."
    for part in run.parts or (run.part(),):
        yield from _of_part(part)
    if run.profile != run.selection.get("profile"):
        yield f"It says profile {run.profile} and ran {run.selection.get('profile')}."
    used = [_Numbered(part=number) for number in range(len(run.parts))]
    if mixed := mixture(run.parts, used):
        yield mixed


class _Numbered:
    def __init__(self, part: int) -> None:
        self.part = part


def _of_part(part: PartRecord) -> Iterator[str]:
    if part.selection.get("profile") not in (PROFILE, REHEARSAL):
        yield f"The profile {part.selection.get('profile')} is no must-pass list."
    for option, value in part.selection.items():
        if option not in OPTIONS and value not in (None, [], (), ""):
            yield f"The option {option} = {value!r} is not allowed in a qualification."
    if part.checks:
        yield f"It was judged by {', '.join(part.checks)} only."
    if part.files:
        yield f"It ran a program of its own, {min(part.files)}; the must-pass list is of the suite's programs."
    yield from of_flags(part.flags)


def of_flags(flags: Mapping[str, str]) -> Iterator[str]:
    """What an environment changes in what is computed: known before a run begins."""
    for flag, value in sorted(flags.items()):
        if flag not in FLAGS and not (flag == "XLA_FLAGS" and HOST_DEVICES.fullmatch(value)):
            yield f"The environment variable {flag} = {value!r} changes what is computed."


def _of_devices(contents: Contents) -> Iterator[str]:
    run = contents.run
    for part in run.parts or (run.part(),):
        said = {run.devices, part.selection.get("devices"), part.machine.get("devices")}
        words = dict(zip(part.command, part.command[1:], strict=False))
        said |= {words["--devices"]} if "--devices" in words else set()
        if len(said) > 1:
            yield f"The run says of its devices that they are {' and '.join(sorted(map(str, said)))}."
    if other := next((record for record in contents.records if record.devices != run.devices), None):
        yield f"{other.case} was run on {other.devices} devices, the run says {run.devices}."
    if run.devices == "real":
        yield from _too_few(contents)


def _too_few(contents: Contents) -> Iterator[str]:
    """The first case that takes more devices than its framework saw."""
    seen = {entry["framework"]: entry["count"] for entry in contents.run.machine.get("accelerators", [])}
    for record in contents.records:
        needed, there = record.layout.devices, seen.get(record.framework, 0)
        if there < needed and record.outcome == "pass":
            yield f"{record.case} needs {needed} real devices, {record.framework} saw {there}."
            return


def _of_cases(contents: Contents) -> Iterator[str]:
    try:
        wanted = {case.id: case for case in of_run(contents.run)}
    except UsageError as wrong:
        yield str(wrong)
        return
    listed = [record.case for record in contents.records]
    for case in sorted(wanted.keys() - set(listed)):
        yield f"{case} is missing."
    for case in sorted({case for case in listed if listed.count(case) > 1} if len(set(listed)) < len(listed) else ()):
        yield f"{case} is in it twice."
    seeds = {case.seed for case in wanted.values()}
    for record in contents.records:
        if record.case in wanted:
            yield from _of_case(record, wanted[record.case])
        elif record.seed not in seeds:
            yield f"{record.case}: seed {record.seed} is not of this version's set, {', '.join(map(str, SEEDS))}."
        else:
            yield f"{record.case} is not on the must-pass list."
    yield from lost_tensors(contents.records)


def _of_case(record: CaseRecord, case: Case) -> Iterator[str]:
    if record.result().case != case:
        yield f"{case.id}: what it says of itself is another case."
        return
    yield from (f"{case.id}: {said}." for said in complaints(record, case))
    if not record.as_expected or record.missing:
        yield f"{case.id}: it is {record.outcome}, and must be {case.expect}."


def _of_waivers(contents: Contents, key: str, day: date) -> Iterator[str]:
    of = Waived(vendor=contents.claim.vendor, device=contents.claim.device, version=contents.run.version)
    given = [waiver.case for waiver in contents.waivers]
    waived = [record.case for record in contents.records if record.verdict == "waived"]
    yield from filter(None, (complaint(waiver, of, day, key) for waiver in contents.waivers))
    yield from (f"{case} is waived without a waiver." for case in sorted(set(waived) - set(given)))
    yield from (f"The waiver of {case} belongs to no waived case." for case in sorted(set(given) - set(waived)))


def _of_derived(given: Mapping[str, bytes], contents: Contents) -> Iterator[str]:
    try:
        made = files(contents)
    except (UsageError, KeyError, ValueError) as wrong:
        yield f"Its files cannot be made again: {wrong}"
        return
    for name in package.FILES[:-1]:
        if given[name] != made[name]:
            yield f"'{name}' is not what follows from the records."
