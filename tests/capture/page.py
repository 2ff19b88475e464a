"""The page `docs/your-trainer.md`: its commands, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your-trainer.md").read_text()
JAX, TORCH, MATRIX = (part.strip().splitlines() for part in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of the page; examples by their full paths, results in the folder."""
    line = line.replace("docs/examples", str(ROOT / "docs/examples"))
    line = re.sub(r"\bpython (?=/|-)", f"{sys.executable} ", line)
    line = line.replace("shardproof ", f"{sys.executable} -m conformance.cli.main ", 1)
    around = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        line, shell=True, cwd=folder, env=around, capture_output=True, text=True, timeout=900, check=False
    )


def done(line: str, folder: Path, **environment: str) -> str:
    ended = shell(line, folder, **environment)
    assert ended.returncode == 0, (line, ended.stdout, ended.stderr)
    return ended.stdout


def judged(folder: Path, *runs: str) -> list[dict]:
    ended = shell(f"shardproof judge runs/single {' '.join(runs)} --json --output judged-{runs[-1][5:]}", folder)
    return [json.loads(line) for line in ended.stdout.splitlines()]
