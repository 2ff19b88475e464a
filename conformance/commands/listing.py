"""`shardproof list`: suites, contracts, implementations, meshes, faults and standing cases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

from conformance import figures
from conformance.cases import PROFILES, Case, suites
from conformance.summary import show_table
from conformance.usage import choose

Row = Mapping[str, object]


def show(what: str, *, as_json: bool) -> int:
    """List one kind of thing; the exit status."""
    rows = list(LISTS[choose("kind of thing to list", what, tuple(LISTS))]())
    if as_json:
        for row in rows:
            print(json.dumps(row))
    elif rows:
        show_table(tuple(rows[0]), [tuple(_text(value) for value in row.values()) for row in rows])
    else:
        print(f"There are no {what}.")
    return 0


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value)
    return "" if value is None else str(value)


def _suites() -> Iterator[Row]:
    for suite in suites().values():
        counts = {profile: len(suite.cases(profile)) for profile in PROFILES}
        numbers = {"contracts": len(suite.contracts), "faults": len(suite.faults)}
        yield {"suite": suite.name, **numbers, **counts, "summary": suite.summary}


def _contracts() -> Iterator[Row]:
    for suite in suites().values():
        for contract in suite.contracts:
            recipe = contract.recipe
            trained = f"{recipe.optimizer}, {figures.count(recipe.steps, 'step')}"
            yield {"contract": contract.name, "recipe": trained, "summary": contract.summary}


def _implementations() -> Iterator[Row]:
    for suite in suites().values():
        for entry in suite.implementations:
            yield {
                "implementation": entry.name,
                "suite": suite.name,
                "framework": entry.framework,
                "contracts": len(entry.classes),
                "summary": entry.summary,
            }


def _meshes() -> Iterator[Row]:
    found: dict[str, list[Case]] = {}
    for case, _ in _standing().values():
        found.setdefault(str(case.mesh), []).append(case)
    for mesh, cases in sorted(found.items(), key=lambda item: (item[1][0].mesh.devices, item[0])):
        used = sorted({case.suite for case in cases})
        yield {"mesh": mesh, "devices": cases[0].mesh.devices, "standing cases": len(cases), "suites": used}


def _faults() -> Iterator[Row]:
    for suite in suites().values():
        for fault in suite.faults:
            yield {
                "fault": fault.id,
                "suite": suite.name,
                "axis": fault.axis,
                "contract": fault.contract,
                "planted in": list(fault.planted),
                "must fire": "no, a control" if fault.control else "yes",
                "summary": fault.summary,
            }


def _cases() -> Iterator[Row]:
    for case, profiles in _standing().values():
        yield {"case": case.id, "expected": case.expect, "profiles": profiles}


def _standing() -> dict[str, tuple[Case, list[str]]]:
    """Every standing case and the profiles that it is in."""
    found: dict[str, tuple[Case, list[str]]] = {}
    for suite in suites().values():
        for profile in PROFILES:
            for case in suite.cases(profile):
                found.setdefault(case.id, (case, []))[1].append(profile)
    return found


LISTS: Mapping[str, Callable[[], Iterator[Row]]] = {
    "suites": _suites,
    "contracts": _contracts,
    "implementations": _implementations,
    "meshes": _meshes,
    "faults": _faults,
    "cases": _cases,
}
