"""Rejudge: the verdict of a case once more, from its recorded figures and the suite's own bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from conformance.cases.case import Case
from conformance.cases.resolve import resolve
from conformance.checks import CHECKS
from conformance.contract.contract import Contract
from conformance.evidence.tolerance import BOUNDS, Excess, block_starts
from conformance.qualify.must_pass import may_decline, owed_checks
from conformance.records.check_record import CheckRecord, FigureRecord
from conformance.records.records import CaseRecord
from conformance.records.results import CheckResult
from conformance.runner.judge import verdict_of

TOLERANT = ("exact", "logic", "numerics", "trajectory")  # they compare errors with bounds
SHAPED = ("gradients", "updates")  # before the name of a parameter: of its shape
JUDGED = ("pass", "fail")


def complaints(record: CaseRecord, case: Case) -> Iterator[str]:
    """What in a record does not follow from its own figures; `case` is the one of the must-pass list."""
    reached = record.waived if record.verdict == "waived" else record.verdict
    if record.verdict == "waived" and reached in (None, case.expect):
        yield "it is waived, and did not fail"
    if record.verdict != "waived" and record.waived is not None:
        yield "it says what a waiver sets aside, and is not waived"
    if record.verdict == "pass" and (infinite := _not_finite(record.model_dump())):
        yield f"it passes with {infinite}, which is no figure"
    if record.checks or reached == "pass":
        yield from _of_checks(record, case, reached)
    elif not record.reason:
        yield f"it is {reached} and gives no reason"


def _of_checks(record: CaseRecord, case: Case, reached: str | None) -> Iterator[str]:
    contract = resolve(case).contract
    names = [check.check for check in record.checks]
    if reached in JUDGED and (missing := sorted(owed_checks(case, contract) - set(names))):
        yield f"the check {missing[0]} is missing"
    if unknown := sorted(set(names) - {check.name for check in CHECKS}):
        yield f"the suite has no check {unknown[0]}"
    if len(set(names)) < len(names):
        yield "a check stands in it twice"
    for check in record.checks:
        yield from (f"{check.check}: {said}" for said in _of_check(check, case, contract))
    again = verdict_of([_decided(check, case) for check in record.checks])
    if reached in JUDGED and again != reached:
        yield f"its figures say {again}, the record says {reached}"


def _decided(check: CheckRecord, case: Case) -> CheckResult:
    return CheckResult(check=check.check, verdict=_verdict(check, case), compared=check.compared)  # type: ignore[arg-type]


def _verdict(check: CheckRecord, case: Case) -> str:
    """What follows from the figures."""
    declined = check.not_held and not check.compared and not check.failed
    if declined and check.check in may_decline(case):
        return "unsupported"
    holds = check.compared > 0 and check.failed == 0 and not _beyond(check)
    planned = all(kind.planned is None or kind.most <= kind.planned for kind in check.memory)
    return "pass" if holds and planned else "fail"


def _of_check(check: CheckRecord, case: Case, contract: Contract) -> Iterator[str]:
    if (below := next((number for number in _numbers(check.model_dump()) if number < 0), None)) is not None:
        yield f"it has the figure {below:g}, and no error, bound or yardstick is below zero"
    if (again := _verdict(check, case)) != check.verdict:
        yield f"its figures say {again}, the record says {check.verdict}"
    if check.check not in TOLERANT or not check.figures:
        if check.check in TOLERANT and check.verdict == "pass":
            yield "it passes without a figure"
        return
    permitted = {0.0} if check.check == "exact" else _bounds(case.dtype)
    if check.allowed not in permitted:
        yield f"it allows {check.allowed} times the yardstick, the suite {max(permitted)}"
        return
    yield from _sums(check)
    yield from _blocks(check, contract)
    if check.verdict == "pass" and (lost := _owed_tensors(check.check, contract) - tensors(check)):
        yield f"no figure of {min(lost)}"


def _bounds(dtype: str) -> set[float]:
    """That of the dtype, and of those of a reference that computes part in fewer bits, which are tighter."""
    return {bound for bound in BOUNDS.values() if bound <= BOUNDS[dtype]}


def _owed_tensors(check: str, contract: Contract) -> set[str]:
    """What every program of the contract shows: loss, gradients and updates, in the steps that the check looks at."""
    seen = {"loss", *(f"gradients/{name}" for name in contract.shapes)}
    updated = {f"updates/{name}" for name in contract.shapes}
    if check != "trajectory":
        return {f"step 1: {tensor}" for tensor in seen}
    steps = range(1, contract.recipe.steps + 1)
    return {f"step {step}: {tensor}" for step in steps for tensor in (updated if step == 1 else seen | updated)}


def _blocks(check: CheckRecord, contract: Contract) -> Iterator[str]:
    """Of what has the shape of a parameter, the row blocks are known."""
    for figure in check.figures:
        kind, _, name = figure.tensor.partition(" rows ")[0].partition(": ")[2].partition("/")
        shape = contract.shapes.get(name) if kind in SHAPED else () if (kind, name) == ("loss", "") else None
        if shape is not None and figure.blocks != len(block_starts(tuple(shape))):
            yield f"{figure.tensor} has {len(block_starts(tuple(shape)))} row blocks, the record says {figure.blocks}"


def tensors(check: CheckRecord) -> set[str]:
    """The tensors of its figures, `step 1: loss`."""
    return {figure.tensor.partition(" rows ")[0] for figure in check.figures}


def lost_tensors(records: Iterable[CaseRecord]) -> Iterator[str]:
    """Tensors that one case shows and another of the same contract does not; activations are nobody's duty."""
    for cases in _shown(records).values():
        everything = set().union(*cases.values())
        for case, shown in cases.items():
            if lost := everything - shown:
                yield f"{case}: no figure of {min(lost)}."


def _shown(records: Iterable[CaseRecord]) -> dict[tuple[str, str], dict[str, set[str]]]:
    """Contract and what is looked at -> case -> tensors; which ones are exact depends on the dtype."""
    shown: dict[tuple[str, str], dict[str, set[str]]] = {}
    for record in records:
        for check in record.checks if record.verdict == "pass" else ():
            if check.check in TOLERANT:
                kinds = {"logic": "first step", "numerics": "first step", "exact": f"exact {record.dtype}"}
                cases = shown.setdefault((record.contract, kinds.get(check.check, check.check)), {})
                cases[record.case] = {tensor for tensor in tensors(check) if ": activations/" not in tensor}
    return shown


def _sums(check: CheckRecord) -> Iterator[str]:
    """What is said of all figures together."""
    beyond, worst = _beyond(check), max(check.figures, key=_ratio)
    allowed = check.allowed or 0.0
    if len({figure.tensor for figure in check.figures}) < len(check.figures):
        yield "a tensor stands in its figures twice"
    if sum(figure.blocks for figure in check.figures) != check.compared:
        yield f"its figures are of another number than the {check.compared} comparisons"
    if check.first != (beyond[0].tensor if beyond else None) and check.check != "numerics":
        yield "its first divergence is another one"
    said = (check.worst.tensor, check.worst.error, check.worst.bound) if check.worst else None
    if said != (worst.tensor, worst.error, allowed * worst.yardstick) and not math.isnan(_ratio(worst)):
        yield f"its worst comparison is {worst.tensor}, the record says {said[0] if said else 'none'}"
    if dict(check.ratios) != _ratios(check.figures, allowed) and not _not_finite(check.model_dump()):
        yield "its ratios are not those of its figures"


def _beyond(check: CheckRecord) -> list[FigureRecord]:
    return [figure for figure in check.figures if check.allowed is None or not _ratio(figure) <= check.allowed]


def _ratio(figure: FigureRecord) -> float:
    return Excess(blocks=figure.blocks, rows=(0, 0), error=figure.error, yardstick=figure.yardstick).ratio


def _ratios(figures: Sequence[FigureRecord], bound: float) -> dict[str, float]:
    """Group of observables -> largest error / bound."""
    ratios: dict[str, float] = {}
    for figure in figures:
        group = figure.tensor.partition(": ")[2].partition("/")[0].partition(" ")[0]
        ratios[group] = max(ratios.get(group, 0.0), _ratio(figure) / bound if bound else _ratio(figure))
    return ratios


def _not_finite(value: Any) -> str:
    """The first number that is none; empty where all are."""
    return next((repr(number) for number in _numbers(value) if not math.isfinite(number)), "")


def _numbers(value: Any) -> Iterator[float]:
    """All that are no whole numbers, wherever they stand."""
    if isinstance(value, float):
        yield value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for item in items:
        yield from _numbers(item)
