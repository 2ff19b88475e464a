"""`shardproof list`: suites, contracts, implementations, meshes, faults, standing cases and scale plans."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from conformance.cases.case import Case
from conformance.cases.suite import PROFILES, Suite, suites
from conformance.cases.usage import UsageError, choose
from conformance.records import formatting
from conformance.report.terminal import show_table

Row = Mapping[str, object]
BY_PROFILE = ("cases", "meshes")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What is listed: all of it, or what is of one suite, profile or contract."""

    suite: str | None = None
    profile: str | None = None
    contract: str | None = None

    @property
    def suites(self) -> list[Suite]:
        """The suites that may have something; UsageError for a name that is none."""
        known = suites()
        names = list(known) if self.suite is None else [choose("suite", self.suite, tuple(known))]
        if self.contract is not None:
            contracts = tuple(contract.name for name in names for contract in known[name].contracts)
            names = [choose("contract", self.contract, contracts).partition("/")[0]]
        return [known[name] for name in names]

    @property
    def profiles(self) -> tuple[str, ...]:
        return PROFILES if self.profile is None else (choose("profile", self.profile, PROFILES),)

    def has(self, *contracts: str) -> bool:
        """Whether something about these contracts is listed."""
        return self.contract is None or self.contract in contracts


def show(what: str, wanted: Filter, *, as_json: bool) -> int:
    """List one kind of thing; the exit status."""
    if wanted.profile is not None and what not in BY_PROFILE:
        raise UsageError(f"--profile is for {' and '.join(BY_PROFILE)}: {what} have no profile.")
    rows = list(LISTS[choose("kind of thing to list", what, tuple(LISTS))](wanted))
    if as_json:
        for row in rows:
            print(json.dumps(row))
    elif rows:
        show_table(tuple(rows[0]), [tuple(_text(value) for value in row.values()) for row in rows])
    else:
        print(f"There are no {what}{' like that' if wanted != Filter() else ''}.")
    return 0


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return "" if value is None else str(value)


def _suites(wanted: Filter) -> Iterator[Row]:
    for suite in wanted.suites:
        counts = {profile: len(suite.cases(profile)) for profile in PROFILES}
        numbers = {"contracts": len(suite.contracts), "faults": len(suite.faults)}
        yield {"suite": suite.name, **numbers, **counts, "summary": suite.summary}


def _contracts(wanted: Filter) -> Iterator[Row]:
    for suite in wanted.suites:
        for contract in (contract for contract in suite.contracts if wanted.has(contract.name)):
            recipe = contract.recipe
            trained = f"{recipe.optimizer}, {formatting.count(recipe.steps, 'step')}"
            yield {"contract": contract.name, "recipe": trained, "summary": contract.summary}


def _implementations(wanted: Filter) -> Iterator[Row]:
    for suite in wanted.suites:
        for entry in (entry for entry in suite.implementations if wanted.has(*entry.classes)):
            yield {
                "implementation": entry.name,
                "suite": suite.name,
                "framework": entry.framework,
                "contracts": len(entry.classes),
                "summary": entry.summary,
            }


def _meshes(wanted: Filter) -> Iterator[Row]:
    by_mesh: dict[str, list[Case]] = {}
    for case, _ in _standing(wanted).values():
        by_mesh.setdefault(str(case.mesh), []).append(case)
    for mesh, cases in sorted(by_mesh.items(), key=lambda item: (item[1][0].mesh.devices, item[0])):
        used = sorted({case.suite for case in cases})
        yield {"mesh": mesh, "devices": cases[0].mesh.devices, "standing cases": len(cases), "suites": used}


def _faults(wanted: Filter) -> Iterator[Row]:
    for suite in wanted.suites:
        for fault in (fault for fault in suite.faults if wanted.has(fault.contract)):
            yield {
                "fault": fault.id,
                "suite": suite.name,
                "axis": fault.axis,
                "contract": fault.contract,
                "planted in": list(fault.planted),
                "must fire": "no, a control" if fault.control else "yes",
                "summary": fault.summary,
            }


def _cases(wanted: Filter) -> Iterator[Row]:
    for case, profiles in _standing(wanted).values():
        yield {"case": case.id, "expected": case.expect, "profiles": profiles}


def _standing(wanted: Filter) -> dict[str, tuple[Case, list[str]]]:
    """Every standing case and the profiles that it is in."""
    by_id: dict[str, tuple[Case, list[str]]] = {}
    for suite in wanted.suites:
        for profile in wanted.profiles:
            for case in (case for case in suite.cases(profile) if wanted.has(case.contract)):
                by_id.setdefault(case.id, (case, []))[1].append(profile)
    return by_id


def _plans(wanted: Filter) -> Iterator[Row]:
    for suite in wanted.suites:
        for plan in (plan for plan in suite.plans if wanted.has(plan.contract.name)):
            parameters = sum(math.prod(shape) for shape in plan.contract.shapes.values())
            yield {"plan": plan.name, "parameters": f"{parameters:,}", "mesh": plan.mesh, "summary": plan.summary}


LISTS: Mapping[str, Callable[[Filter], Iterator[Row]]] = {
    "suites": _suites,
    "contracts": _contracts,
    "implementations": _implementations,
    "meshes": _meshes,
    "faults": _faults,
    "cases": _cases,
    "plans": _plans,
}
