"""`shardproof power`: the kill table of planted faults and generated mutations."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from conformance.cases import suites
from conformance.commands.run import RESULTS
from conformance.usage import choose

DIRECTORY = RESULTS / "power"


def power(names: tuple[str, ...], *, implementation: str | None, as_json: bool) -> int:
    """Measure the power of some suites; the exit status is 1 if a fault survived or a control fired."""
    from conformance.power import power as measure

    known = tuple(suites())
    chosen = tuple(choose("suite", name, known) for name in names) or known
    table = measure(chosen, implementation=implementation, on_progress=_progress)
    written = table.write(Path(DIRECTORY))
    if as_json:
        for row in table.rows:
            print(json.dumps(asdict(row), default=str))
    else:
        print(f"The kill table of {len(table.rows)} rows lies in {written or DIRECTORY}.")
    return 0 if all(getattr(row, "as_expected", True) for row in table.rows) else 1


def _progress(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
