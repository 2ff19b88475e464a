"""A plan from its name to its record: compiled in a process of its own, and its program proven right when small."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conformance.cases.importing import environment
from conformance.cases.plan import ScalePlan
from conformance.cases.selection import parse_case
from conformance.contract.errors import ShardproofError
from conformance.contract.mesh import Mesh
from conformance.records.environment import content_hash
from conformance.records.formatting import count
from conformance.records.results import CaseResult
from conformance.runner.last_words import last_words
from conformance.runner.run import run
from conformance.scale.record import Finding, ScaleRecord
from conformance.targets.chip import Chip

SECONDS = 600.0
_VERBS = {"jax": "compiling", "torch": "taking a step of"}
PROOFS = "proofs.json"  # verdicts of small cases, by content hash of the suite and case


class ScaleError(ShardproofError, RuntimeError):
    """A plan that could not be compiled; the message is one sentence."""


def scaled(
    name: str,
    plan: ScalePlan,
    mesh: Mesh,
    chip: Chip | None,
    framework: str,
    folder: Path,
    on_progress: Callable[[str], None],
) -> ScaleRecord:
    """Compile, then prove; `folder` keeps the verdicts of proofs, which hold for one version of the suite."""
    on_progress(f"{_VERBS[framework]} {plan.name} on {mesh} ({count(mesh.devices, 'device')})")
    record = compiled(name, mesh, chip, framework)
    verdict, sentence = _proof(plan, folder, on_progress)
    findings = record.findings
    if verdict != "pass":
        findings = (*findings, Finding(check="conformance", sentence=sentence))
    return record.model_copy(update={"proof_verdict": verdict, "findings": findings})


def compiled(name: str, mesh: Mesh, chip: Chip | None, framework: str) -> ScaleRecord:
    """A plan, registered or in a file, compiled in a process of its own. Raises ScaleError with one sentence."""
    chip_text = "-" if chip is None else chip.model_dump_json()
    command = [sys.executable, "-P", "-m", "conformance.workers.scale_process", name, str(mesh), chip_text]
    command.append(framework)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment())
    except subprocess.TimeoutExpired:
        raise ScaleError(f"The plan was still compiling after {SECONDS:.0f} seconds.") from None
    _, separator, text = done.stdout.rpartition("\x1e")
    if not separator:
        raise ScaleError(f"The plan does not compile{last_words(done.stderr, done.returncode)}")
    return ScaleRecord.model_validate_json(text)


def _proof(plan: ScalePlan, folder: Path, on_progress: Callable[[str], None]) -> tuple[str, str]:
    """(verdict, a sentence) of the small case; that of an earlier run of the same code counts."""
    kept = folder / PROOFS
    proofs: dict[str, str] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    key = f"{content_hash()} {plan.proof}"
    if key not in proofs:
        on_progress(f"running {plan.proof}, the same program small")
        results: list[CaseResult] = []
        run([parse_case(plan.proof)], on_result=results.append, bisect=False)
        proofs[key] = results[0].verdict if results else "error"
        folder.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(proofs, indent=1) + "\n", encoding="utf-8")
    verdict = proofs[key]
    return verdict, f"The same program small, {plan.proof}, does not pass: {verdict}. Run it to see why."
