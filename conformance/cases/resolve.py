"""Resolve: from the names in a case to the contract, the class that runs it and the fault that is planted in it."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.cases.case import Case
from conformance.cases.external import framework_of, is_external
from conformance.cases.second_models import second_models
from conformance.cases.suite import Suite, suites
from conformance.cases.usage import UsageError, choose
from conformance.cases.variation import origin_of
from conformance.contract.contract import Contract
from conformance.contract.implementation import FRAMEWORKS, Framework


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a case runs: the contract, the framework, the path of the class and of the fault mixin."""

    contract: Contract
    framework: Framework
    path: str  # 'module:Class' or '/path/file.py:Class'
    fault: str | None = None
    others: tuple[tuple[str, str], ...] = ()  # other contracts of other sizes that it honours, with their classes


def resolve(case: Case) -> Target:
    """Look a case up in the installed suites; UsageError in one sentence for a name that no suite has."""
    suite = suites()[choose("suite", case.suite, list(suites()))]
    origin = choose("contract", origin_of(case.contract), [contract.name for contract in suite.contracts])
    contract = suite.contract(case.contract)
    if is_external(case.implementation):
        return Target(contract=contract, framework=framework_of(case.implementation), path=case.implementation)
    known = [entry.name for entry in suite.implementations if origin in entry.classes]
    entry = suite.implementation(choose("implementation", case.implementation, known))
    return Target(
        contract=contract,
        framework=choose("framework", entry.framework, FRAMEWORKS),
        path=entry.classes[origin],
        fault=_planted(suite, case) if case.fault else None,
        others=second_models(suite, entry, suite.contract(origin)),
    )


def _planted(suite: Suite, case: Case) -> str:
    faults = {fault.id: fault for fault in suite.faults}
    fault = faults[choose("fault", str(case.fault), list(faults))]
    if case.implementation not in fault.planted:
        raise UsageError(f"The fault '{fault.id}' is not planted in '{case.implementation}'.")
    return fault.planted[case.implementation]
