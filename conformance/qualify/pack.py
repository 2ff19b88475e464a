"""Pack: a finished run, the vendor's claim and the suite's waivers become one zip that can be judged again."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

from conformance.cases.usage import UsageError
from conformance.contract.errors import ShardproofError
from conformance.qualify import archive
from conformance.qualify.derived import files
from conformance.qualify.package import Claim, Contents
from conformance.qualify.verify import verify
from conformance.qualify.waivers import PUBLIC_KEY, Waived, Waiver, complaint
from conformance.records.files import WriteFailed, cannot_write
from conformance.records.recorder import read
from conformance.records.records import CaseRecord


class NotPacked(ShardproofError):  # noqa: N818 - says what happened
    """A run of which no package is made; the message says why."""

    status = 1


def pack(
    directory: Path,
    output: Path,
    claim: Claim,
    waivers: tuple[Waiver, ...] = (),
    *,
    key: str = PUBLIC_KEY,
    day: date | None = None,
) -> Contents:
    """Write the package, and verify it as a stranger would; NotPacked where it would be refused."""
    if output.exists():
        raise UsageError(f"'{output}' exists: choose another name for the package.")
    day = day or datetime.now(UTC).date()
    contents = _contents(directory, claim, waivers, key, day)
    draft = output.with_name(f"{output.name}.draft")
    try:
        archive.write(draft, files(contents))
        verify(draft, key=key, day=day)
        draft.rename(output)
    except archive.Refused as refused:
        raise NotPacked(f"No package is made of '{directory}'.\n{refused}") from None
    except OSError as wrong:
        raise WriteFailed(cannot_write(output, wrong)) from None
    finally:
        draft.unlink(missing_ok=True)
    return contents


def _contents(directory: Path, claim: Claim, waivers: tuple[Waiver, ...], key: str, day: date) -> Contents:
    results = read(directory)
    if "accelerators" not in results.run.machine:
        raise NotPacked(f"'{directory}' was not written by `shardproof qualify run`: it lacks the figures.")
    if results.complaints:
        raise NotPacked(results.complaints[0])
    of = Waived(vendor=claim.vendor, device=claim.device, version=results.run.version)
    wrong = next(filter(None, (complaint(waiver, of, day, key) for waiver in waivers)), None)
    if wrong:
        raise NotPacked(wrong)
    granted = {waiver.case: waiver for waiver in waivers}
    records = tuple(_waived(record, granted) for record in results.records)
    used = {record.case for record in records if record.verdict == "waived"}
    if unused := sorted(granted.keys() - used):
        raise NotPacked(f"The waiver of {unused[0]} belongs to no case that failed.")
    return Contents(claim=claim, run=results.run, records=records, waivers=tuple(granted.values()))


def _waived(record: CaseRecord, granted: dict[str, Waiver]) -> CaseRecord:
    """The record with the verdict `waived` where it is not as expected and there is a waiver for it."""
    if record.as_expected or record.case not in granted:
        return record
    return record.model_copy(update={"verdict": "waived", "waived": record.verdict})
