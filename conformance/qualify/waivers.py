"""Waivers: a failure that the suite's side lets pass, for one case on one device of one vendor, signed, for a time.

Whoever has the private key signs: `python -m conformance.qualify.waivers KEY_FILE waivers.json` puts a signature into
each waiver that has none. The public key is part of the suite; the private one is kept by whoever publishes it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from conformance.cases.usage import UsageError
from conformance.qualify.strict import NotStrict, strict_json

PUBLIC_KEY = "e40001dab7a70fa004b904d9be84767766d291989d020ea80c21a89f2224408b"  # Ed25519, raw


class Waiver(BaseModel):
    """What is waived, why, and until when; `signature` is Ed25519 over `message`, in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vendor: str
    device: str
    version: str
    case: str
    reason: str
    link: str
    expires: date
    signature: str = ""

    @property
    def message(self) -> bytes:
        """What is signed: every field but the signature, as JSON with sorted keys."""
        return json.dumps(self.model_dump(mode="json", exclude={"signature"}), sort_keys=True).encode()


class Waived(BaseModel):
    """For whom waivers are asked: the same fields must stand in the waiver."""

    model_config = ConfigDict(frozen=True)

    vendor: str
    device: str
    version: str


def complaint(waiver: Waiver, of: Waived, day: date, key: str) -> str:
    """Why a waiver does not hold on a day; empty where it does."""
    named = f"The waiver of {waiver.case}"
    if not _is_signed(waiver, key):
        return f"{named} is not signed by the suite: its signature does not fit the suite's public key."
    for field in Waived.model_fields:
        if getattr(waiver, field) != getattr(of, field):
            return f"{named} is for {field} '{getattr(waiver, field)}', not '{getattr(of, field)}'."
    if waiver.expires < day:
        return f"{named} expired on {waiver.expires}."
    if not waiver.reason.strip() or not waiver.link.strip():
        return f"{named} gives no reason or no link."
    return ""


def _is_signed(waiver: Waiver, key: str) -> bool:
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(bytes.fromhex(waiver.signature), waiver.message)
    except (InvalidSignature, ValueError):
        return False
    return True


def read_waivers(text: bytes, name: str) -> tuple[Waiver, ...]:
    """The waivers of a file; UsageError in one sentence where it is none."""
    try:
        waivers = TypeAdapter(tuple[Waiver, ...]).validate_python(strict_json(text))
    except (NotStrict, ValidationError) as wrong:
        said = wrong.errors(include_url=False)[0]["msg"] if isinstance(wrong, ValidationError) else str(wrong)
        raise UsageError(f"'{name}' is no list of waivers: {said.rstrip('.')}.") from None
    return waivers


def written(waivers: Iterable[Waiver]) -> bytes:
    """The file of these waivers."""
    return (json.dumps([waiver.model_dump(mode="json") for waiver in waivers], indent=2) + "\n").encode()


def signed(waiver: Waiver, private: Ed25519PrivateKey) -> Waiver:
    return waiver.model_copy(update={"signature": private.sign(waiver.message).hex()})


def main(arguments: Sequence[str]) -> None:
    key_file, file = map(Path, arguments)
    private = load_pem_private_key(key_file.read_bytes(), password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise SystemExit(f"'{key_file}' holds no Ed25519 key.")
    waivers = read_waivers(file.read_bytes(), str(file))
    file.write_bytes(written(waiver if waiver.signature else signed(waiver, private) for waiver in waivers))


if __name__ == "__main__":
    main(sys.argv[1:])
