"""Waivers: one for one case on one device, signed by the suite and for a time; nothing else makes a case `waived`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from conformance.cases.usage import UsageError
from conformance.qualify.derived import files
from conformance.qualify.pack import NotPacked, pack
from conformance.qualify.verify import verify
from conformance.qualify.waivers import PUBLIC_KEY, Waiver, main, read_waivers, signed, written
from conformance.records.recorder import read
from tests.qualify.conftest import CLAIM, DAY, KEY, PRIVATE, Forger


def crashed(results: Path) -> str:
    """The first case of the results came out as a crash; its id."""
    records = list(read(results).records)
    fields = {"verdict": "crash", "checks": (), "reason": "Rank 1 ended with signal 6."}
    records[0] = records[0].model_copy(update=fields)
    (results / "cases.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in records))
    return records[0].case


def waiver(case: str, **fields: str) -> Waiver:
    given = {"vendor": "Acme", "device": "X1", "version": "0.1.0", "case": case, "expires": "2030-12-31"}
    given |= {"reason": "the compiler drops a fence", "link": "https://example.org/123"}
    return Waiver.model_validate(given | fields)


def test_a_waived_case_is_packed_and_verified_as_such(results: Path, tmp_path: Path) -> None:
    case = crashed(results)
    with pytest.raises(NotPacked, match="it is crash, and must be pass"):
        pack(results, tmp_path / "a.zip", CLAIM, key=KEY, day=DAY)
    assert not (tmp_path / "a.zip").exists()
    pack(results, tmp_path / "a.zip", CLAIM, (signed(waiver(case), PRIVATE),), key=KEY, day=DAY)
    contents = verify(tmp_path / "a.zip", key=KEY, day=DAY)
    [record] = [record for record in contents.records if record.verdict == "waived"]
    assert (record.case, record.waived, record.as_expected) == (case, "crash", True)


BAD = {
    "forged": ({}, "is not signed by the suite"),
    "expired": ({"expires": "2030-04-30"}, "expired on 2030-04-30"),
    "of another vendor": ({"vendor": "Other"}, "is for vendor 'Other', not 'Acme'"),
    "of another device": ({"device": "X2"}, "is for device 'X2', not 'X1'"),
    "of another version": ({"version": "0.0.9"}, "is for version '0.0.9'"),
    "without a reason": ({"reason": " "}, "gives no reason or no link"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_waiver_that_does_not_hold_is_refused(results: Path, forger: Forger, tmp_path: Path, kind: str) -> None:
    fields, said = BAD[kind]
    case = crashed(results)
    given = signed(waiver(case, **fields), Ed25519PrivateKey.generate() if kind == "forged" else PRIVATE)
    with pytest.raises(NotPacked, match=said):
        pack(results, tmp_path / "a.zip", CLAIM, (given,), key=KEY, day=DAY)
    records = tuple(
        record.model_copy(update={"verdict": "waived", "waived": "crash", "checks": (), "reason": "Signal 6."})
        if record.case == case
        else record
        for record in forger.contents.records
    )
    assert said in forger.refusal(replace(forger.contents, records=records, waivers=(given,)))


def test_a_signature_holds_for_what_was_signed_only(forger: Forger) -> None:
    case = forger.contents.records[0].case
    moved = signed(waiver("tensor/other"), PRIVATE).model_copy(update={"case": case})
    assert "is not signed by the suite" in forger.refusal(replace(forger.contents, waivers=(moved,)))


def test_a_waiver_that_nothing_needs_is_refused(results: Path, forger: Forger, tmp_path: Path) -> None:
    given = (signed(waiver(forger.contents.records[0].case), PRIVATE),)
    with pytest.raises(NotPacked, match="belongs to no case that failed"):
        pack(results, tmp_path / "a.zip", CLAIM, given, key=KEY, day=DAY)
    assert "belongs to no waived case" in forger.refusal(replace(forger.contents, waivers=given))


def test_signing_takes_the_private_key_and_the_suite_knows_the_public_one(tmp_path: Path) -> None:
    key, file = tmp_path / "key.pem", tmp_path / "waivers.json"
    key.write_bytes(PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.write_bytes(written([waiver("tensor/mlp[x]")]))
    main([str(key), str(file)])
    [given] = read_waivers(file.read_bytes(), "waivers.json")
    assert given == signed(waiver("tensor/mlp[x]"), PRIVATE)
    assert (len(bytes.fromhex(PUBLIC_KEY)), PUBLIC_KEY == KEY) == (32, False)
    with pytest.raises(UsageError, match="is no list of waivers"):
        read_waivers(b'[{"case": 3}]', "waivers.json")


def test_the_key_of_the_package_does_not_count(forger: Forger) -> None:
    """A package that brings a key of its own is measured by that of the suite."""
    assert files(forger.contents)["suite.json"].count(PUBLIC_KEY.encode()) == 1
    changed = forger.files | {"suite.json": forger.files["suite.json"].replace(PUBLIC_KEY.encode(), KEY.encode())}
    assert "'suite.json' is not what follows" in forger.refusal(changed)
