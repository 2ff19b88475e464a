"""Derived: every file of a package that follows from its contents. Whoever verifies makes them again, byte for byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from conformance.cases.resolve import resolve
from conformance.evidence.tolerance import BOUNDS
from conformance.qualify import package
from conformance.qualify.must_pass import SEEDS, digest, of_run
from conformance.qualify.package import Contents
from conformance.qualify.statement import statement
from conformance.qualify.waivers import PUBLIC_KEY, written
from conformance.records.base import SCHEMA_VERSION
from conformance.records.recorder import Results
from conformance.report.html import html


def files(contents: Contents) -> dict[str, bytes]:
    """All files of the package, in their order."""
    run, records = contents.run, contents.records
    made = {
        package.STATEMENT: _json(statement(contents)),
        package.SYSTEM: _json({**contents.claim.model_dump(), "devices": run.devices, "machine": run.machine}),
        package.ENVIRONMENT: _json({"packages": run.packages, "flags": run.flags}),
        package.SUITE: _json(suite(contents)),
        package.COMMAND: (run.model_dump_json(indent=2) + "\n").encode(),
        package.CASES: b"".join(record.model_dump_json().encode() + b"\n" for record in records),
        package.PROGRAMS: _json(programs(contents)),
        package.WAIVERS: written(contents.waivers),
        package.REPORT: html(Results(directory=Path("package"), run=run, records=records)).encode(),
    }
    return {**made, package.MANIFEST: manifest(made)}


def suite(contents: Contents) -> dict[str, Any]:
    """Which suite judged, and by what."""
    return {
        "version": contents.run.version,
        "hash": contents.run.hash,
        "schema_version": SCHEMA_VERSION,
        "must_pass_sha256": digest(of_run(contents.run)),
        "seeds": list(SEEDS),
        "bounds": BOUNDS,
        "waiver_key": PUBLIC_KEY,
    }


def programs(contents: Contents) -> dict[str, dict[str, str]]:
    """Class -> the file that defines it, and that file's SHA-256, for every program that was run."""
    paths = sorted({resolve(record.result().case).path for record in contents.records})
    return {path: _source(path.partition(":")[0]) for path in paths}


def _source(module: str) -> dict[str, str]:
    top, *rest = module.split(".")
    spec = find_spec(top)
    assert spec is not None, f"the package {top} of a registered class is installed"
    folder = Path(str(spec.origin)).parent
    stem = folder.joinpath(*rest)
    path = stem.with_suffix(".py") if stem.with_suffix(".py").is_file() else stem / "__init__.py"
    name = "/".join((top, *path.relative_to(folder).parts))
    return {"file": name, "sha256": _sha256(path.read_bytes())}


def manifest(made: Mapping[str, bytes]) -> bytes:
    """Bytes and SHA-256 of every other file."""
    return _json({name: {"bytes": len(content), "sha256": _sha256(content)} for name, content in made.items()})


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
