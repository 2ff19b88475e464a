"""Applicability: which checks a case can be judged by, as far as that is known before it has run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conformance.cases.case import Case
from conformance.cases.usage import choose
from conformance.checks import CHECKS, Check
from conformance.contract.contract import Contract
from conformance.evidence.comparison import CaseRun

AFTER_THE_RUN: Any = None  # the evidence and the reference of a case that has not run


def may_apply(check: Check, case: Case, contract: Contract) -> bool | None:
    """True or False where case and contract decide; None where the evidence of a run will."""
    case_run = CaseRun(case=case, contract=contract, evidence=AFTER_THE_RUN, reference=AFTER_THE_RUN)
    try:
        return bool(check.applies(case_run))
    except AttributeError:
        return None


def chosen(names: Sequence[str]) -> tuple[Check, ...]:
    """The checks with these names, in the order in which they are applied; UsageError for a name that is none."""
    known = {check.name: check for check in CHECKS}
    wanted = {choose("check", name, tuple(known)) for name in names}
    return tuple(check for check in CHECKS if check.name in wanted or not names)
