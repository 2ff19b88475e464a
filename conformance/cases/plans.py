"""The scale plans of all suites, and one by its name, by the file that holds it, or from a plan file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from conformance.cases.importing import module_at
from conformance.cases.plan import ScalePlan
from conformance.cases.plan_file import read_plan
from conformance.cases.raised import said
from conformance.cases.suite import suites
from conformance.cases.usage import UsageError, choose


def plans() -> Mapping[str, ScalePlan]:
    """Every plan of every installed suite, by name."""
    return {plan.name: plan for suite in suites().values() for plan in suite.plans}


def plan_named(name: str) -> ScalePlan:
    """A registered plan, `file.py:NAME`, or a plan file `*.json`. Raises UsageError with one sentence."""
    if name.endswith(".json"):
        return read_plan(Path(name)).scale_plan(Path(name).stem)
    if ":" not in name:
        return plans()[choose("plan", name, list(plans()))]
    file, _, attribute = name.rpartition(":")
    if not Path(file).is_file():
        raise UsageError(f"There is no file '{file}' with the plan {attribute}.")
    try:
        plan = getattr(module_at(Path(file)), attribute, None)
    except Exception as failure:
        raise UsageError(f"The file '{file}' does not import: {said(failure)}.") from failure
    if not isinstance(plan, ScalePlan):
        raise UsageError(f"'{file}' has no ScalePlan called '{attribute}'.")
    return plan
