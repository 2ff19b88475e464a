"""`shardproof power`: the kill table of planted faults and generated mutations, and the false alarms."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.cases.external import framework_of, is_external
from conformance.cases.suite import suites
from conformance.cases.usage import UsageError, choose
from conformance.contract.mesh import Mesh, too_large
from conformance.records import formatting
from conformance.records.recorder import RESULTS

if TYPE_CHECKING:
    from conformance.power.journal import Journal
    from conformance.power.table import PowerTable

DIRECTORY = RESULTS / "power"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Whose power is measured, and where. Contracts and a mesh are those of somebody's own `file.py:Class`."""

    suites: tuple[str, ...] = ()
    implementation: str | None = None
    contracts: tuple[str, ...] = ()
    mesh: str | None = None


def power(asked: Asked, *, output: Path | None, as_json: bool) -> int:
    """Measure power; the exit status is 1 if a bug survived, a control was flagged, or nothing could be planted.

    Suites and implementations that are in the folder already and are not measured now keep their rows there. Each suite
    is written when it is done; what was interrupted within one goes on where it stopped.
    """
    table, page = _measured(asked, output or DIRECTORY)
    if as_json:
        for row in table.rows:
            print(json.dumps(row.record()))
    for line in _conclusion(table):
        print(line, file=sys.stderr if as_json else sys.stdout)
    if not as_json:
        print(f"Kill table: {page}")
    return 0 if table.totals.planted and all(row.as_expected for row in table.rows) and _all_of(asked, table) else 1


def _measured(asked: Asked, folder: Path) -> tuple[PowerTable, Path]:
    """The table of all suites, and the page that it is written to."""
    from conformance.power.journal import Journal
    from conformance.power.table import PowerTable

    chosen, mesh = _suites(asked), _mesh(asked)
    theirs = asked.implementation is not None and is_external(asked.implementation)
    table, page = PowerTable.of(()), folder
    for names in [chosen] if theirs else [(name,) for name in chosen]:
        journal = None if theirs else Journal(folder / f"{names[0]}.unfinished.jsonl")
        measured = _measured_at_once(asked, names, mesh, journal)
        if measured.rows or measured.left_out:
            page = measured.beside(PowerTable.read(folder)).write(folder)
        if journal is not None:
            journal.end()
        table = measured.beside(table)
    if not table.rows and not table.left_out:
        raise UsageError("Nothing was planted: no fault and no mutation of these suites is for this implementation.")
    return table, page


def _measured_at_once(asked: Asked, names: tuple[str, ...], mesh: Mesh | None, journal: Journal | None) -> PowerTable:
    """The table of these suites."""
    from conformance.power.measure import power as measure

    return measure(
        names,
        implementation=asked.implementation,
        contracts=asked.contracts,
        mesh=mesh,
        journal=journal,
        on_progress=_progress,
    )


def _suites(asked: Asked) -> tuple[str, ...]:
    """The suites to measure: those that were named, those of the contracts, or all of them."""
    known = suites()
    named = tuple(choose("suite", name, tuple(known)) for name in asked.suites)
    theirs = asked.implementation is not None and is_external(asked.implementation)
    if (asked.contracts or asked.mesh is not None) and not theirs:
        raise UsageError("--contract and --mesh are for an implementation of your own: give --implementation too.")
    contracts = tuple(contract.name for name in named or known for contract in known[name].contracts)
    of_contracts = [choose("contract", name, contracts).partition("/")[0] for name in asked.contracts]
    return tuple(dict.fromkeys(of_contracts)) or named or tuple(known)


def _mesh(asked: Asked) -> Mesh | None:
    if asked.mesh is None or asked.implementation is None:
        return None
    mesh = Mesh.parse(asked.mesh)
    if sentence := too_large(mesh, framework_of(asked.implementation)):
        raise UsageError(sentence)
    return mesh


def _all_of(asked: Asked, table: PowerTable) -> bool:
    """Whether every contract that was asked for by name has something planted on some mesh."""
    return set(asked.contracts) <= {row.contract for row in table.rows}


def _conclusion(table: PowerTable) -> Iterator[str]:
    """What was left out, reason by reason, then what is not as expected, then the totals."""
    reasons: dict[str, list[str]] = {}
    for where, why in table.left_out.items():
        reasons.setdefault(why, []).append(where)
    yield from (f"Left out, since {why.rstrip('.')}: {', '.join(places)}." for why, places in reasons.items())
    survivors = [row for row in table.rows if not row.as_expected]
    for row in survivors:
        yield f"{row.verdict} {row.kind} {row.id} {row.contract} {row.implementation} {row.mesh}: {row.what}"
    if not table.rows:
        yield "Nothing was planted."
        return
    yield f"{table.totals}; {formatting.count(len(survivors), 'row')} not as expected."


def _progress(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
