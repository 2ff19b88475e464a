"""`shardproof report`: every report of a results directory, written into it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from conformance.records.recorder import read
from conformance.report import write_all


def report(directory: Path, *, as_json: bool) -> int:
    """Write all reports; the exit status is 0 whatever they say of the cases, and 1 where there are none."""
    results = read(directory)
    for complaint in results.complaints:
        print(complaint, file=sys.stderr)
    written = write_all(results)
    print(json.dumps([str(path) for path in written]) if as_json else "\n".join(map(str, written)))
    if not results.records:
        print(f"'{directory}' has no record of any case: the reports say nothing.", file=sys.stderr)
    return 0 if results.records else 1
