"""Doctor: what this machine can run, what is missing, and what to do about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conformance.contract.mesh import MOST_DEVICES
from conformance.records import environment
from conformance.report.terminal import show_table
from conformance.targets.chip import CHIPS, Chip
from conformance.targets.devices import why_no_target

PROBE_SECONDS = 120.0
RANK_BYTES = 400 * 2**20  # what a torch rank process takes, roughly
LEAST_BYTES = 2 * 2**30

# Each probe runs in a process of its own and prints one JSON object: this process imports no framework.
PROBES = {
    "jax": """
import json, jax, flax
print(json.dumps({"devices": [d.device_kind for d in jax.devices()]}))
""",
    "torch": """
import json, torch
import torch.distributed as dist
gloo = dist.is_available() and dist.is_gloo_available()
gpus = [f"cuda {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
print(json.dumps({"devices": gpus or ["cpu"], "gloo": gloo}))
""",
}
INSTALL = {"jax": "pip install 'shardproof[jax]'", "torch": "pip install 'shardproof[torch]'"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at. `state` is ok, missing or limited; `advice` says what to do about it."""

    what: str
    state: str
    detail: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at everything that a run needs."""
    findings = [_python(), *_packages(), *_hardware()]
    for framework in PROBES:
        findings.append(_framework(framework))
    targets = [_target(chip) for chip in CHIPS.values() if chip.platform]
    return [*findings, *targets, _writeable(Path.cwd())]


def can_run(findings: list[Finding]) -> bool:
    """At least one framework runs, and results can be written."""
    states = {finding.what: finding.state for finding in findings}
    runs = any(states[f"{framework} emulated"] != "missing" for framework in PROBES)
    return runs and states["results"] == "ok" and states["python"] == "ok"


def _python() -> Finding:
    recent = sys.version_info >= (3, 11)
    advice = "" if recent else "install Python 3.11 or newer"
    return Finding(what="python", state="ok" if recent else "missing", detail=sys.version.split()[0], advice=advice)


def _packages() -> list[Finding]:
    findings = []
    for name, version in environment.packages().items():
        advice = (
            "" if version else INSTALL.get({"jaxlib": "jax", "flax": "jax"}.get(name, name), "pip install shardproof")
        )
        findings.append(Finding(what=name, state="ok" if version else "missing", detail=version or "", advice=advice))
    return findings


def _hardware() -> list[Finding]:
    import psutil

    cores, free = environment.cores(), psutil.virtual_memory().available
    enough = free >= LEAST_BYTES
    return [
        Finding(what="cores", state="ok", detail=f"{cores}"),
        Finding(
            what="memory",
            state="ok" if enough else "limited",
            detail=f"{free / 2**30:.1f} GiB free",
            advice="" if enough else "free some memory, or run one framework at a time with --framework",
        ),
    ]


def _framework(name: str) -> Finding:
    answer = _probe(name)
    if "devices" not in answer:
        return Finding(what=f"{name} emulated", state="missing", detail=answer["wrong"], advice=INSTALL[name])
    if answer.get("gloo") is False:
        return Finding(what=f"{name} emulated", state="missing", detail="torch was built without gloo",
                       advice="install a build of torch with distributed support")  # fmt: skip
    most = min(MOST_DEVICES[name], _affordable()) if name == "torch" else MOST_DEVICES[name]
    detail = f"up to {most} devices; this machine has {_counted(answer['devices'])}"
    if most < 8:
        return Finding(
            what=f"{name} emulated", state="limited", detail=detail, advice="meshes of 8 ranks need more memory"
        )
    return Finding(what=f"{name} emulated", state="ok", detail=detail)


def _target(chip: Chip) -> Finding:
    """Whether plans of production size can be compiled for a chip, which need not be there."""
    what, why = f"target {chip.name}", why_no_target(chip)
    if not why:
        return Finding(what=what, state="ok", detail="plans are compiled for it by shardproof scale")
    extra = {"cuda": "aot", "tpu": "tpu"}[chip.platform]
    advice = f"pip install 'shardproof[{extra}]'; without it plans are partitioned, and their temporaries are not known"
    return Finding(what=what, state="limited", detail=why, advice=advice)


def _counted(devices: list[str]) -> str:
    return ", ".join(f"{devices.count(device)} x {device}" for device in dict.fromkeys(devices))


def _affordable() -> int:
    """How many torch rank processes the free memory holds."""
    import psutil

    return max(1, int(psutil.virtual_memory().available // RANK_BYTES))


def _probe(framework: str) -> dict[str, Any]:
    command = [sys.executable, "-c", PROBES[framework]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"wrong": f"importing it took more than {PROBE_SECONDS:.0f} seconds"}
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer
    said = done.stderr.strip().splitlines()
    return {"wrong": said[-1] if said else f"importing it ended the process with status {done.returncode}"}


def _writeable(directory: Path) -> Finding:
    writeable = os.access(directory, os.W_OK)
    advice = "" if writeable else "run in another folder, or give --output"
    return Finding(what="results", state="ok" if writeable else "missing", detail=str(directory), advice=advice)


def show(*, as_json: bool) -> int:
    """Print the findings; the exit status is 0 if at least one framework can run."""
    findings = examine()
    good = can_run(findings)
    if as_json:
        print(json.dumps({"can_run": good, "findings": [asdict(finding) for finding in findings]}))
        return 0 if good else 1
    show_table(("what", "state", "detail", "advice"), [(f.what, f.state, f.detail, f.advice) for f in findings])
    print("This machine can run shardproof." if good else "This machine cannot run shardproof: see the advice above.")
    return 0 if good else 1
