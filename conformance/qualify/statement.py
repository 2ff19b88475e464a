"""The statement: what a package shows, what it does not show, and why; made from the records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from conformance.qualify.must_pass import PROFILE, SEEDS
from conformance.qualify.package import Contents
from conformance.records.formatting import count


def statement(contents: Contents) -> dict[str, Any]:
    """The statement as it stands in the package."""
    reasons = list(reservations(contents))
    run, records = contents.run, contents.records
    return {
        "says": spoken(contents),
        "qualifies": not reasons,
        "reservations": reasons,
        **contents.claim.model_dump(),
        "suite_version": run.version,
        "commit": run.machine.get("commit", ""),
        "scope": scope(contents),
        "verdicts": dict(sorted(Counter(record.verdict for record in records).items())),
        "waived": [record.case for record in records if record.verdict == "waived"],
        "not_as_expected": [record.case for record in records if not record.as_expected],
        "not_held": not_held(contents),
    }


def scope(contents: Contents) -> dict[str, Any]:
    """What the must-pass list was narrowed to."""
    run = contents.run
    return {
        "profile": run.profile,
        "suites": list(run.selection.get("suites") or ()),
        "framework": run.selection.get("framework"),
        "most_devices": run.machine.get("most_devices"),
        "devices": run.devices,
        "seeds": list(SEEDS) if run.profile == PROFILE else [],
    }


def reservations(contents: Contents) -> Iterator[str]:
    """Why the package qualifies no hardware; nothing where it does."""
    run = contents.run
    if run.devices != "real":
        yield f"The devices are {run.devices}: no chip was measured."
    platforms = sorted({seen["platform"] for seen in run.machine.get("accelerators", [])})
    if run.devices == "real" and platforms in ([], ["cpu"]):
        yield "The platform is the CPU of the host, which stands in for a chip."
    if run.profile != PROFILE:
        yield f"It is a rehearsal: the profile {run.profile} is not the must-pass list."
    if said := run.machine.get("tree"):
        yield str(said)
    failing = sum(not record.as_expected for record in contents.records)
    if failing:
        yield f"{count(failing, 'case')} {'is' if failing == 1 else 'are'} not as expected."


def spoken(contents: Contents) -> str:
    """One paragraph for people."""
    claim, run, records = contents.claim, contents.run, contents.records
    waived = sum(record.verdict == "waived" for record in records)
    narrowed = [f"suites {', '.join(run.selection['suites'])}" if run.selection.get("suites") else "all suites"]
    narrowed += [f"framework {run.selection['framework']}"] if run.selection.get("framework") else []
    most = run.machine.get("most_devices")
    narrowed += [f"meshes of at most {count(most, 'device')}"] if most else []
    head = f"{claim.device} of {claim.vendor} with {claim.stack}: {count(len(records), 'case')} of"
    tail = f" shardproof {run.version} ({'; '.join(narrowed)}) on {run.devices} devices, {waived} waived."
    less = ", ".join(f"{check} in {count(number, 'case')}" for check, number in not_held(contents).items())
    less = f" Not held, or in part: {less}." if less else ""
    reasons = list(reservations(contents))
    if reasons:
        return f"{head}{tail} This qualifies no hardware. {' '.join(reasons)}{less}"
    return f"{head}{tail} Each is as the must-pass list asks, but for what is waived.{less}"


def not_held(contents: Contents) -> dict[str, int]:
    """Check -> cases in which it could not be held, or not all of it."""
    return dict(sorted(Counter(c.check for record in contents.records for c in record.checks if c.not_held).items()))
