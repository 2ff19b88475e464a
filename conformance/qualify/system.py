"""The system: the devices that each framework sees, asked in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from typing import TypedDict

SECONDS = 300.0

PROBES = {
    "jax": """
import json, jax
from collections import Counter
print(json.dumps([[*key, n] for key, n in Counter((d.platform, d.device_kind) for d in jax.devices()).items()]))
""",
    "torch": """
import json, torch
kind = torch.accelerator.current_accelerator(check_available=True)
count = torch.accelerator.device_count() if kind else 1
name = torch.get_device_module(kind).get_device_name(0) if kind and kind.type in ("cuda", "xpu") else str(kind or "cpu")
print(json.dumps([[kind.type if kind else "cpu", name, count]]))
""",
}


class Seen(TypedDict):
    """Devices of one kind, as a framework names them."""

    framework: str
    platform: str
    kind: str
    count: int


def devices(frameworks: Iterable[str]) -> list[Seen]:
    """What each framework sees; nothing of one that does not start."""
    return [seen for framework in frameworks for seen in _devices(framework)]


def _devices(framework: str) -> list[Seen]:
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBES[framework]], capture_output=True, text=True, timeout=SECONDS, check=True
        )
        rows = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return []
    return [Seen(framework=framework, platform=platform, kind=kind, count=count) for platform, kind, count in rows]
