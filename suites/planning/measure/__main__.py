"""`python -m suites.planning.measure FOLDER [PLANS]`: compile, keep, and write the table of all that was compiled.

What was compiled is kept in `compiled.jsonl` and not compiled again; PLANS is how many new ones at the most. One
process compiles them all for an H100 and needs the extra `aot`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from suites.planning.measure.page import page
from suites.planning.measure.plans import PLANS, Measured

CHIP = "h100"


def main(folder: Path, most: int) -> int:
    """The exit status is 2 where nothing can be compiled for the chip here."""
    from conformance.targets.chip import CHIPS
    from conformance.targets.devices import why_no_target

    if why := why_no_target(CHIPS[CHIP]):
        print(f"Nothing is compiled for {CHIP} here: {why}.", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "compiled.jsonl"
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.is_file() else []
    rows: dict[str, dict[str, Any]] = {row["plan"]: row for row in map(json.loads, lines)}
    for plan in [plan for plan in PLANS if plan.key not in rows][:most]:
        rows[plan.key] = row = _compiled(plan)
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(plan.key, file=sys.stderr, flush=True)
        page(folder, [(each, rows[each.key]) for each in PLANS if each.key in rows])
    page(folder, [(each, rows[each.key]) for each in PLANS if each.key in rows])
    return 0


def _compiled(plan: Measured) -> dict[str, Any]:
    """What the compiler says of one plan, as JSON."""
    from conformance.planner.evidence import evidence_of
    from conformance.scale.measured import measured
    from conformance.targets.chip import CHIPS
    from conformance.workers.lookup import load
    from suites.planning.plans import scale_plan

    spent = sum(os.times()[:2])
    wanted = scale_plan("measured", plan.training, plan.layout)
    record = measured(wanted, load(wanted.program), plan.layout.mesh, CHIPS[CHIP], load(wanted.budget))
    stages = [stage.model_dump() for stage in record.stages]
    row = {"plan": plan.key, "flops": record.flops, "stages": stages, "cpu_seconds": sum(os.times()[:2]) - spent}
    return row | evidence_of(record).model_dump()


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else len(PLANS)))
