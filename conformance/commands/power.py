"""`shardproof power`: the kill table of planted faults and generated mutations, and the false alarms."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from conformance import figures
from conformance.cases import suites
from conformance.recorder import RESULTS
from conformance.usage import UsageError, choose

DIRECTORY = RESULTS / "power"


def power(names: tuple[str, ...], *, implementation: str | None, output: Path | None, as_json: bool) -> int:
    """Measure the power of some suites; the exit status is 1 if a bug survived or a control was flagged.

    Suites and implementations that are in the folder already and are not measured now keep their rows there.
    """
    from conformance.power import power as measure
    from conformance.power_table import PowerTable

    known = tuple(suites())
    chosen = tuple(choose("suite", name, known) for name in names) or known
    table = measure(chosen, implementation=implementation, on_progress=_progress)
    if not table.rows:
        raise UsageError("Nothing was planted: no fault and no mutation of these suites is for this implementation.")
    folder = output or DIRECTORY
    page = table.beside(PowerTable.read(folder)).write(folder)
    survivors = [row for row in table.rows if not row.as_expected]
    if as_json:
        for row in table.rows:
            print(json.dumps(row.record()))
    else:
        for row in survivors:
            print(f"{row.verdict} {row.kind} {row.id} {row.contract} {row.implementation} {row.mesh}: {row.what}")
        print(f"{table.totals}; {figures.count(len(survivors), 'row')} not as expected.")
        print(f"Kill table: {page}")
    return 1 if survivors else 0


def _progress(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
