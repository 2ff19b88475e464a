"""Bisection: take one thing away at a time and see with which of them the fault goes.

First the axis that a signature names, by giving it size 1. Where that does not make the case pass, all axes: what fails
on one device too is no fault of how the model is divided, and is diagnosed there. Then each axis, and where none is
needed each by itself. Where no signature says why, the values inside the step are compared, and where those do not say
it either, each feature of the recipe is taken away, by `Contract.without`. What was shown, and what was ruled out by
it, is put together in `conformance.diagnosis.conclusion`.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from conformance.cases.case import Case
from conformance.cases.resolve import Target
from conformance.checks import CHECKS
from conformance.diagnosis import surest
from conformance.diagnosis.conclusion import Shown, concluded, of_reference
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.diagnosis.inside.parts_of_loss import mean_of_parts
from conformance.evidence.intermediates import Intermediates
from conformance.records.results import CaseResult, Cause

_LOG = logging.getLogger("shardproof.diagnosis")

SURE = 0.8  # a cause below this is none: features are left out too
LIKELY = 0.4  # an axis named this surely is tried first
ACCUMULATION, MICROBATCHES = "accumulation", "microbatches"
PATIENCE_SECONDS = 30.0  # of CPU time in one comparison: after a longer one there is no second


class Varied(Protocol):
    """Runs variations of a failed case."""

    def __call__(self, case: Case, target: Target) -> CaseResult | None:
        """One with its own verdict; None where it cannot be made."""

    def values(self, case: Case, target: Target) -> Intermediates | None:
        """What every operation of its first step makes in float64; None where the program does not show it."""

    def reference_values(self, case: Case, target: Target) -> Intermediates | None:
        """The same of the reference."""

    def losses_of_parts(self, case: Case, target: Target, parts: int) -> tuple[float, ...]:
        """The loss of the reference on each of so many equal parts of the rows; empty where they do not divide."""


def bisected(result: CaseResult, target: Target, judged: Varied) -> CaseResult:
    """A failed result, with the axes, the features and the line that further runs have shown."""
    trials = _Trials(result, target, judged)
    shown = trials.places()
    shown = replace(shown, divergence=tuple(trials.divergence(shown)))
    return concluded(result, trials.with_features(shown))


class _Trials:
    """The further runs of one failed case."""

    def __init__(self, result: CaseResult, target: Target, judged: Varied) -> None:
        self.result, self.target, self.judged = result, target, judged
        self.case, self.best = result.case, surest(check.diagnosis for check in result.checks)
        self.wide = [axis for axis, size in self.case.mesh.sizes if size > 1]
        self.kept: dict[Case, CaseResult | None] = {result.case: result}

    def _only_relations(self) -> bool:
        """Whether all that fails are relations: one device has no other meshes for them, and shows nothing of axes."""
        return _failing(self.result) == {"relations"}

    def _breaks_less(self, result: CaseResult | None) -> bool:
        """Whether a further run fails relations alone, where the case fails more: that is gone then."""
        return result is not None and _failing(result) == {"relations"} != _failing(self.result)

    def places(self) -> Shown:
        """One device, and the axes."""
        if self._only_relations():
            return Shown()
        named = self._named()
        if named is not None and len(self.wide) > 1 and self._verdict(_narrow(self.case, (named,))) == "pass":
            return Shown(needed=(named,))
        alone = self._run(_narrow(self.case, self.wide)) if self.wide else None
        less = self._breaks_less(alone)
        if alone is not None and alone.verdict == "fail" and not less:
            return Shown(alone=alone)
        right = alone is not None and (alone.verdict == "pass" or less)
        return replace(self._axes(right), related=less)

    def divergence(self, shown: Shown) -> list[Cause]:
        """Where nothing else says why: the first wrong value inside the step. Where that breaks, nothing is lost."""
        if self._understood(shown) or self._is_late() or not self._has_wrong_values():
            return []
        try:
            return list(self._first_divergence(shown))
        except Exception:
            _LOG.debug("The values inside the step of %s cannot be compared.", self.case.id, exc_info=True)
            return []

    def _has_wrong_values(self) -> bool:
        """Whether numbers are wrong, and not only what is sent or stored."""
        others = {check.name for check in CHECKS if not check.of_values}
        return any(check.verdict == "fail" and check.check not in others for check in self.result.checks)

    def _is_late(self) -> bool:
        """Whether the first step, which is all whose values are known, has nothing wrong in it."""
        firsts = [check.first for check in self.result.checks if check.verdict == "fail" and check.first]
        return bool(firsts) and all(re.match(r"step (?!1:)", first) for first in firsts)

    def _first_divergence(self, shown: Shown) -> Iterator[Cause]:
        """Of the whole mesh, and where that does not say why, on those axes alone that it takes."""
        started, (case, target) = time.process_time(), self._undivided(shown)
        case = self._in_float64(case, target, shown)
        causes = list(self._compared(case, target, shown))
        late = time.process_time() - started > PATIENCE_SECONDS
        narrow = _narrow(case, [axis for axis in self.wide if axis not in (shown.needed or shown.enough[:1])])
        places_alone = all(cause.place or cause.confidence < SURE for cause in causes)
        may = self.case.mutation is None and shown.alone is None and shown.axes and narrow != case
        if may and places_alone and not late and self._verdict(narrow, target) == "fail":
            causes = list(self._compared(narrow, target, shown)) or causes
        yield from causes

    def _compared(self, case: Case, target: Target, shown: Shown) -> Iterator[Cause]:
        """Beside the program on one device; beside the reference where that is wrong too, or does not run."""
        alone, on_device = _narrow(case, self.wide), shown.alone is not None or not self.wide
        case = alone if on_device else case
        wide = self.judged.values(case, target)
        twin = None if on_device else self.judged.values(alone, target)
        against = twin or self.judged.reference_values(alone, target)
        tensor = self._first_tensor(case)
        if wide is None or against is None or (twin is None and _is_in_microbatches(target, tensor)):
            return
        if len(shown.needed) == 1 and _comes_after_outputs(tensor):
            losses = self.judged.losses_of_parts(case, target, case.mesh.size(shown.needed[0]))
            yield from mean_of_parts(wide, against, losses, shown.needed[0])
        causes = first_divergence(wide, against, case.mesh, tensor)
        yield from causes if twin is not None else map(of_reference, causes)

    def _undivided(self, shown: Shown) -> tuple[Case, Target]:
        """The case with all rows of a step at once, where it still fails so.

        A part of the rows that an axis divides, cut into slices, is no part of a slice: then no value could be found.
        Nor has the reference, which has no microbatches, those of a program on one device.
        """
        case, target, on_device = self.case, self.target, shown.alone is not None or not self.wide
        for feature in (ACCUMULATION, MICROBATCHES) if on_device else (ACCUMULATION,):
            if case.mutation is None and feature in target.contract.features:
                contract = target.contract.without(feature)
                plain, other = replace(case, contract=contract.name), replace(target, contract=contract)
                fails = self._verdict(_narrow(plain, self.wide) if on_device else plain, other) == "fail"
                case, target = (plain, other) if fails else (case, target)
        return case, target

    def _in_float64(self, case: Case, target: Target, shown: Shown) -> Case:
        """The case in float64 if it fails so too: in fewer bits no value is known again that was rounded otherwise."""
        wide = replace(case, dtype="float64")
        if case.dtype == "float64" or case.mutation is not None:
            return case
        seen = _narrow(wide, self.wide) if shown.alone is not None else wide
        return wide if self._verdict(seen, target) == "fail" else case

    def _first_tensor(self, case: Case) -> str | None:
        """The first tensor of the first step to diverge in a case that was run."""
        result = self.kept.get(case) or self.result
        firsts = [check.first for check in result.checks if check.verdict == "fail" and check.first]
        return next(filter(None, map(_tensor, firsts)), None)

    def _named(self) -> str | None:
        """The axis of a sure cause: if the fault goes with it, nothing else need be tried."""
        best = self.best
        sure = best is not None and best.confidence >= SURE and not best.place and best.axis_sure >= LIKELY
        return best.axis if sure and best is not None and best.axis in self.wide else None

    def _axes(self, right: bool) -> Shown:
        """The axes without any of which the case passes; where one device is right, else those that are enough."""
        if len(self.wide) < 2:
            return Shown(needed=tuple(self.wide) if right else ())
        verdicts = {axis: self._verdict(_narrow(self.case, (axis,))) for axis in self.wide}
        needed, spared = (tuple(a for a in self.wide if verdicts[a] == verdict) for verdict in ("pass", "fail"))
        if needed or not right:
            return Shown(needed=needed, spared=spared)
        others = {axis: [other for other in self.wide if other != axis] for axis in self.wide}
        enough = [axis for axis in self.wide if self._verdict(_narrow(self.case, others[axis])) == "fail"]
        return Shown(enough=tuple(enough), spared=spared)

    def with_features(self, shown: Shown) -> Shown:
        """The features without any of which the case passes, and those without which it fails all the same."""
        if self._understood(shown) or self.case.mutation is not None or self._only_relations():
            return shown
        case = self.case if shown.alone is None else shown.alone.case
        verdicts = {feature: self._verdict_without(case, feature) for feature in self.target.contract.features}
        return replace(
            shown,
            features=tuple(feature for feature, verdict in verdicts.items() if verdict == "pass"),
            refuted=tuple(feature for feature, verdict in verdicts.items() if verdict == "fail"),
        )

    def _understood(self, shown: Shown) -> bool:
        """Whether some cause, and not only a place, is sure."""
        causes = [*shown.divergence, *([] if self.best is None else [self.best])]
        if shown.alone is None:
            refuted = {*self.wide} - {*shown.axes} if shown.axes else set()
            causes = [cause for cause in causes if cause.axis not in refuted]
        else:  # what lies on an axis is not what one device shows
            causes = [cause for cause in causes if cause.axis is None]
            causes += [cause for check in shown.alone.checks for cause in check.diagnosis]
        return any(cause.confidence >= SURE and not cause.place for cause in causes)

    def _verdict_without(self, case: Case, feature: str) -> str | None:
        contract = self.target.contract.without(feature)
        return self._verdict(replace(case, contract=contract.name), replace(self.target, contract=contract))

    def _run(self, case: Case, target: Target | None = None) -> CaseResult | None:
        if case not in self.kept:
            self.kept[case] = self.judged(case, target or self.target)
        return self.kept[case]

    def _verdict(self, case: Case, target: Target | None = None) -> str | None:
        """Of a further run; one that fails relations alone passes what fails here."""
        result = self._run(case, target)
        return None if result is None else "pass" if self._breaks_less(result) else result.verdict


def _failing(result: CaseResult) -> set[str]:
    return {check.check for check in result.checks if check.verdict == "fail"}


def _narrow(case: Case, axes: Sequence[str]) -> Case:
    sizes = tuple((axis, 1 if axis in axes else size) for axis, size in case.mesh.sizes)
    return replace(case, mesh=replace(case.mesh, sizes=sizes))


def _is_in_microbatches(target: Target, tensor: str | None) -> bool:
    """Whether a tensor is made microbatch by microbatch: the reference has all rows at once, and no such values."""
    kept = tensor is not None and tensor.startswith(("updates/", "optimizer/"))
    return target.contract.recipe.microbatches > 1 and not kept


def _comes_after_outputs(tensor: str | None) -> bool:
    """Whether all that a model says of its rows is right: what is wrong then is how it is summed up."""
    return tensor is not None and tensor.startswith(("loss", "metrics/", "gradients/", "input_gradients/"))


def _tensor(first: str) -> str | None:
    """`gradients/w` of `step 1: gradients/w rows 0-3`; None of a later step, or of no step."""
    moment, _, rest = first.partition(": ")
    return rest.partition(" rows ")[0] if moment == "step 1" else None
