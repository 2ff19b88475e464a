"""Conclusion: what further runs have shown of a failed case, put together with the causes that its values suggest.

A run shows a place: the axis or the feature with which the fault goes. It refutes causes that lie elsewhere, and makes
none surer, unless the same was said of several axes: then what is left has the share of what is refuted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from conformance.diagnosis import UNKNOWN, ranked
from conformance.diagnosis.signatures.divisors import is_of_slices
from conformance.diagnosis.signatures.scale import SLICES
from conformance.diagnosis.signatures.weighed import OF_PARTS
from conformance.records.results import CaseResult, Cause, CheckResult

ALONE = "wrong on one device too"
GONE = "goes away when the axis has size 1"
SHOWN = 0.85  # how sure a run is of the place
FEATURE = 0.89
CERTAIN = 0.95  # of the axis, which a run has shown
MOST_LEFT = 0.9  # how sure a cause is when the same on all other axes is refuted
MOST = 4
ABOUT = {
    SLICES: "accumulation",
    OF_PARTS["slice"]: "accumulation",
}  # what a cause is about: refuted where it fails without that too


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What further runs of a failed case have shown.

    alone      the case on one device, where it fails too
    needed     axes without any of which it passes; `spared` are those without which it fails
    enough     where no single axis is needed: those that are enough, all others having size 1
    features   without any of these it passes; without the `refuted` ones it fails
    divergence  what the first wrong value inside the step says
    related    on one device relations fail, and nothing else that fails here
    """

    alone: CaseResult | None = None
    needed: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()
    enough: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    refuted: tuple[str, ...] = ()
    divergence: tuple[Cause, ...] = ()
    related: bool = False

    @property
    def axes(self) -> tuple[str, ...]:
        return self.needed or self.enough

    @property
    def passes(self) -> str:
        """What the case does where the fault is gone."""
        return "passes, but for relations" if self.related else "passes"


def concluded(result: CaseResult, shown: Shown) -> CaseResult:
    """The result with the diagnosis of every failed check."""
    checks = (
        replace(check, diagnosis=_diagnosis(check, shown)) if check.verdict == "fail" else check
        for check in result.checks
    )
    return replace(result, checks=tuple(checks))


def _diagnosis(check: CheckResult, shown: Shown) -> tuple[Cause, ...]:
    if shown.alone is not None:
        inside = (replace(cause, axis=None, axis_confidence=None) for cause in shown.divergence)
        causes = [*_everywhere(shown), *inside, *_on_one_device(shown.alone), *_placeless(check, shown)]
    else:
        said = (*shown.divergence, *check.diagnosis)
        causes = [*_places(shown), *(cause for signature in said for cause in _kept(signature, shown, said))]
    features = [_of_feature(feature, shown) for feature in shown.features[:1] if len(shown.features) == 1]
    known = [cause for cause in causes if cause.cause != UNKNOWN]
    return ranked([*features, *(known or causes)], MOST)


def _about(cause: Cause) -> str | None:
    return "accumulation" if is_of_slices(cause.cause) else ABOUT.get(cause.cause)


def of_reference(cause: Cause) -> Cause:
    """Of values that were held against those of the reference."""
    words, basis = (text.replace("one device", "the reference") for text in (cause.cause, cause.basis))
    return replace(cause, cause=words, basis=basis)


def _everywhere(shown: Shown) -> Iterator[Cause]:
    basis = "the same case on one device fails as well"
    yield Cause(cause=ALONE, axis=None, confidence=SHOWN, basis=_also(basis, shown), place=True)


def _on_one_device(alone: CaseResult) -> Iterator[Cause]:
    """What the run on one device says itself."""
    for check in alone.checks:
        for cause in check.diagnosis if check.verdict == "fail" else ():
            if cause.cause not in (UNKNOWN, ALONE):
                words = cause.cause if ALONE in cause.cause else f"{cause.cause}, on one device too"
                yield replace(cause, cause=words, axis=None, axis_confidence=None)


def _placeless(check: CheckResult, shown: Shown) -> Iterator[Cause]:
    """Of the causes of the whole case, those that lie on no axis; and where it shows, which may be a second fault."""
    for cause in check.diagnosis:
        if _about(cause) in shown.refuted:
            continue
        if cause.axis is None:
            yield cause
        elif cause.place and cause.cause != UNKNOWN:
            yield replace(cause, confidence=min(cause.confidence, 0.5), axis_confidence=min(cause.axis_sure, 0.3))


def _places(shown: Shown) -> Iterator[Cause]:
    """The axes that have part in it, in a sentence for each; where a line is known, that says them too."""
    words, basis = _of_axes(shown)
    has_line = any(cause.place and not _is_refuted(cause, shown) for cause in shown.divergence)
    for axis in () if has_line else shown.axes:
        yield Cause(
            cause=words,
            axis=axis,
            confidence=SHOWN,
            axis_confidence=CERTAIN,
            basis=_also(basis, shown),
            place=True,
        )


def _of_axes(shown: Shown) -> tuple[str, str]:
    """With which axes it goes, and the runs that have shown it."""
    together = " and ".join(shown.axes)
    if len(shown.needed) == 1:
        return GONE, f"with {shown.needed[0]}=1 the case {shown.passes}{_spared(shown)}"
    if shown.needed:
        words = f"takes {together} together: it goes away when any of them has size 1"
        return words, f"it passes with {' and with '.join(f'{axis}=1' for axis in shown.needed)}{_spared(shown)}"
    words = f"shows on {together} alone: it goes away when all axes have size 1"
    return words, f"on one device the case {shown.passes}; it fails with {' alone and with '.join(shown.enough)} alone"


def _spared(shown: Shown) -> str:
    return f", with {' and with '.join(f'{axis}=1' for axis in shown.spared)} it fails" if shown.spared else ""


def _also(basis: str, shown: Shown) -> str:
    """What else was ruled out."""
    without = " and without ".join(shown.refuted)
    return f"{basis}; it fails without {without} all the same" if shown.refuted else basis


def _kept(cause: Cause, shown: Shown, others: Sequence[Cause]) -> Iterator[Cause]:
    """A cause with the axis that was shown; none where a run has refuted it."""
    if _about(cause) in shown.refuted:
        return
    if not shown.axes:
        yield cause
    elif cause.axis in shown.axes:
        sure = min(cause.confidence + _of_refuted(cause, shown, others), max(cause.confidence, MOST_LEFT))
        yield replace(_with_place(cause, shown), confidence=round(sure, 3), axis_confidence=CERTAIN)
    elif cause.axis is None and len(shown.axes) == 1:
        yield replace(_with_place(cause, shown), axis=shown.axes[0], axis_confidence=CERTAIN)
    elif cause.axis is None:  # the axes together say more of the place than one of them does
        sure = min(cause.confidence, SHOWN - 0.01) if cause.place else cause.confidence
        yield replace(cause, axis=shown.axes[0], confidence=sure, axis_confidence=0.5)


def _is_refuted(cause: Cause, shown: Shown) -> bool:
    """Whether it lies on an axis with which the fault does not go."""
    return bool(shown.axes) and cause.axis is not None and cause.axis not in shown.axes


def _of_refuted(cause: Cause, shown: Shown, others: Sequence[Cause]) -> float:
    """How sure the same was said of axes on which it does not lie: what is left has to be it."""
    alike = [other for other in others if (other.cause, other.basis) == (cause.cause, cause.basis)]
    return sum(other.confidence for other in alike if other.axis is not None and other.axis not in shown.axes)


def _with_place(cause: Cause, shown: Shown) -> Cause:
    """A place inside the step, and what runs have shown of the axes: two statements that stand together."""
    if cause not in shown.divergence or not cause.place:
        return cause
    words, basis = _of_axes(shown)
    return replace(cause, cause=f"{cause.cause}; {words}", basis=f"{cause.basis}; {_also(basis, shown)}")


def _of_feature(feature: str, shown: Shown) -> Cause:
    """It goes away without one feature of the recipe, and with no other."""
    others = f" and fails without {' and without '.join(shown.refuted)}" if shown.refuted else ""
    where = f"; {ALONE}" if shown.alone is not None else ""
    return Cause(
        cause=f"goes away without {feature}{where}",
        axis=shown.axes[0] if shown.axes else None,
        confidence=FEATURE,
        axis_confidence=CERTAIN if shown.axes else None,
        basis=f"without {feature} the case passes{others}",
        place=True,
    )
