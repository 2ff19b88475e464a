"""Explain a case in words: what its contract says, which checks judge it and why, what came out last; or a contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conformance.cases.case import Case
from conformance.cases.external import is_external
from conformance.cases.fault import Fault
from conformance.cases.selection import parse_case
from conformance.cases.suite import suites
from conformance.cases.usage import choose
from conformance.checks import CHECKS
from conformance.checks.applicability import may_apply
from conformance.checks.relations import Relations
from conformance.cli import interface
from conformance.contract.contract import Contract
from conformance.records import formatting
from conformance.records.recorder import RESULTS, read
from conformance.records.records import CaseRecord
from conformance.records.reproduce import reproduce
from conformance.relations import RELATIONS
from conformance.report.terminal import what_failed


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A case in words. `checks` are those that judge it; `perhaps` those that its evidence decides about."""

    case: Case
    contract: Contract
    checks: tuple[tuple[str, str], ...]
    perhaps: tuple[tuple[str, str], ...]
    fault: Fault | None
    last: CaseRecord | None
    where: Path | None

    @property
    def expected(self) -> str:
        return {
            "pass": "The case must pass.",
            "unsupported": "The implementation must refuse this mesh with a clear sentence, not compute it wrong.",
        }.get(self.case.expect, f"The expected verdict is {self.case.expect}.")


def _contract(text: str) -> Contract:
    known = {contract.name: contract for suite in suites().values() for contract in suite.contracts}
    return known[choose("contract", text, tuple(known))]


def explain(text: str) -> Explanation:
    """Look a case id up; UsageError in one sentence if it is none, or names what no suite has."""
    case = parse_case(text)
    known = {contract.name: contract for suite in suites().values() for contract in suite.contracts}
    contract = known[choose("contract", case.contract, tuple(known))]
    suite = suites()[case.suite]
    if not is_external(case.implementation):
        choose("implementation", case.implementation, tuple(entry.name for entry in suite.implementations))
    faults = {fault.id: fault for fault in suite.faults}
    fault = faults[choose("fault", case.fault, tuple(faults))] if case.fault else None
    last, where = _last_record(case)
    applies = {check.name: may_apply(check, case, contract) for check in CHECKS}
    return Explanation(
        case=case,
        contract=contract,
        checks=tuple((check.name, check.rule) for check in CHECKS if applies[check.name]),
        perhaps=tuple((check.name, check.rule) for check in CHECKS if applies[check.name] is None),
        fault=fault,
        last=last,
        where=where,
    )


def _last_record(case: Case) -> tuple[CaseRecord | None, Path | None]:
    """The record of the case in the newest results directory that has it."""
    for run in sorted(RESULTS.glob("*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        records = [record for record in read(run.parent).records if record.case == case.id]
        if records:
            return records[-1], run.parent
    return None, None


def show(text: str, *, as_json: bool) -> int:
    """Print the explanation of a case, or of a contract; the exit status."""
    contract = None if "[" in text else _contract(text)
    if contract is not None:
        told = interface.interface(contract)
        print(json.dumps(interface.plain(told)) if as_json else "\n".join(interface.lines(told)))
        return 0
    explanation = explain(text)
    if as_json:
        print(json.dumps(_plain(explanation)))
    else:
        print("\n".join(lines(explanation)))
    return 0


def _plain(explanation: Explanation) -> dict[str, object]:
    return {
        "case": explanation.case.id,
        "contract": explanation.contract.name,
        "summary": explanation.contract.summary,
        "semantics": dict(explanation.contract.semantics),
        "expected": explanation.case.expect,
        "checks": dict(explanation.checks),
        "perhaps": dict(explanation.perhaps),
        "relations": {name: RELATIONS[name].relation for name in explanation.contract.relations if name in RELATIONS},
        "fault": explanation.fault.summary if explanation.fault else None,
        "reproduce": reproduce(explanation.case),
        "last": json.loads(explanation.last.model_dump_json()) if explanation.last else None,
    }


def lines(explanation: Explanation) -> Iterator[str]:
    """The explanation, line by line."""
    yield explanation.case.id
    yield ""
    yield from _what(explanation)
    yield ""
    yield "Judged by"
    for name, rule in explanation.checks:
        yield from _wrapped(f"{name}: {rule}")
    for name, rule in explanation.perhaps:
        yield from _wrapped(f"{name} (where the evidence allows it): {rule}")
    yield from _laws(explanation)
    yield ""
    yield "Reproduce"
    yield f"  {reproduce(explanation.case)}"
    yield ""
    yield from _came_out(explanation)


def _laws(explanation: Explanation) -> Iterator[str]:
    """The relations that the check `relations` holds this contract to, in float64."""
    if any(name == Relations.name for name, _ in (*explanation.checks, *explanation.perhaps)):
        yield ""
        yield "Relations"
        for name in explanation.contract.relations:
            yield from _wrapped(
                f"{name}: {RELATIONS[name].relation}" if name in RELATIONS else f"{name}: there is no such relation."
            )


def _what(explanation: Explanation) -> Iterator[str]:
    case, contract = explanation.case, explanation.contract
    yield "Contract"
    yield from _wrapped(f"{contract.name}: {contract.summary}.")
    recipe = contract.recipe
    clipped = f", clipped at {recipe.clip_norm:g}" if recipe.clip_norm else ""
    yield from _wrapped(f"{recipe.steps} steps of {recipe.optimizer}{clipped}, accumulation {recipe.accumulation}; "
                        f"{len(contract.shapes)} parameters.")  # fmt: skip
    for term, definition in contract.semantics.items():
        yield from _wrapped(f"{term}: {definition}.")
    yield ""
    yield "Case"
    yield from _wrapped(f"{case.implementation} on the mesh {case.mesh} ({case.mesh.devices} {case.devices} devices), "
                        f"in {case.dtype}, seed {case.seed}. {explanation.expected}")  # fmt: skip
    if explanation.fault:
        yield from _wrapped(
            f"Planted fault {explanation.fault.id}: {explanation.fault.summary} It bites {explanation.fault.bites}."
        )
    if case.mutation:
        yield from _wrapped(
            f"Mutation: '{case.mutation.operator}' on collective number {case.mutation.site} of the program."
        )


def _came_out(explanation: Explanation) -> Iterator[str]:
    yield "Last record"
    if explanation.last is None:
        yield f"  none in ./{RESULTS}"
        return
    worst = f", worst error/bound {formatting.ratio(explanation.last.worst.ratio)}" if explanation.last.worst else ""
    yield f"  {explanation.last.spoken}{worst}, {formatting.seconds(explanation.last.seconds)} (in {explanation.where})"
    for sentence in explanation.last.not_held:
        yield from _wrapped(sentence)
    if not explanation.last.as_expected:
        yield from (f"  {line}" for line in what_failed(explanation.last))


def _wrapped(text: str) -> list[str]:
    from textwrap import wrap

    return wrap(text, width=110, initial_indent="  ", subsequent_indent="    ")
