"""`shardproof report`: every report of a results directory, written into it, or the page of a plan beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from conformance.cases.plan_file import read_plan
from conformance.records.recorder import read
from conformance.report import write_all


def report(directory: Path, *, as_json: bool) -> int:
    """Write all reports; the exit status is 0 whatever they say of the cases, and 1 where there are none."""
    if directory.suffix == ".json":
        return _plan(directory, as_json=as_json)
    results = read(directory)
    for complaint in results.complaints:
        print(complaint, file=sys.stderr)
    written = write_all(results)
    print(json.dumps([str(path) for path in written]) if as_json else "\n".join(map(str, written)))
    if not results.records:
        print(f"'{directory}' has no record of any case: the reports say nothing.", file=sys.stderr)
    return 0 if results.records else 1


def _plan(path: Path, *, as_json: bool) -> int:
    from conformance.report.plan_page import write_plan

    page = write_plan(read_plan(path), path)
    print(json.dumps([str(page)]) if as_json else page)
    return 0
