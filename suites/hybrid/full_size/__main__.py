"""`python -m suites.hybrid.full_size FOLDER`: compile the full-size programs; write their memory and communication."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

DEVICES = 16


def main(folder: Path) -> None:
    from suites.hybrid.full_size.compiled import compiled, page
    from suites.hybrid.full_size.programs import PROGRAMS

    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for program in PROGRAMS:
        print(f"compiling {program.contract.name} on {program.mesh}", file=sys.stderr, flush=True)
        results.append(compiled(program))
    records = [result.record() for result in results]
    (folder / "figures.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    main(Path(sys.argv[1]))
