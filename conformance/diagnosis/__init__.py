"""Diagnosis: which known signature fits the first tensor that diverges, on which mesh axis, and how surely."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from conformance.diagnosis.arithmetic import computed_in, computed_narrowly
from conformance.diagnosis.copies import copies_differ
from conformance.diagnosis.history import late, narrower, not_finite, stale
from conformance.diagnosis.masks import another_mask
from conformance.diagnosis.means import mean_of_means
from conformance.diagnosis.scale import bias_repeated, gradient_rescaled, norm_miscounted, norms_added, scaled
from conformance.diagnosis.shards import exchanged, permuted, rolled, seams_wrong, shards_wrong
from conformance.diagnosis.suspect import DivergedTensor
from conformance.diagnosis.traffic import communication_differs, only_axis
from conformance.evidence.comparison import CaseRun, TensorComparison
from conformance.records.results import Cause

SIGNATURES: tuple[Callable[[DivergedTensor], Iterator[Cause]], ...] = (
    not_finite,
    copies_differ,
    another_mask,
    mean_of_means,
    bias_repeated,
    scaled,
    permuted,
    stale,
    norm_miscounted,
    norms_added,
    gradient_rescaled,
    exchanged,
    rolled,
    seams_wrong,
    shards_wrong,
    late,
    narrower,
)
UNKNOWN = "no known signature"
MOST_SUSPECTS = 4
MOST_CAUSES = 3


def diagnose(case_run: CaseRun, diverging: list[TensorComparison]) -> tuple[Cause, ...]:
    """The causes that fit, surest first. The first diverging tensor counts most; later ones are its consequences."""
    found = [
        *computed_narrowly(case_run),
        *communication_differs(case_run, diverging[0].tensor if diverging else None),
    ]
    for place, comparison in enumerate(diverging[:MOST_SUSPECTS]):
        suspect = DivergedTensor(comparison=comparison, case_run=case_run)
        for signature in SIGNATURES:
            found += [_weighted(cause, 0.8**place) for cause in signature(suspect)]
    only = only_axis(case_run, diverging[0].tensor) if diverging else None
    if only is not None:
        found.append(Cause(cause=UNKNOWN, axis=only, confidence=0.1))
    return (*computed_in(case_run), *_ranked(found, only))[:MOST_CAUSES]


def _weighted(cause: Cause, weight: float) -> Cause:
    return Cause(cause=cause.cause, axis=cause.axis, confidence=round(cause.confidence * weight, 3))


def _ranked(found: list[Cause], only: str | None) -> tuple[Cause, ...]:
    """Surest first, each cause once; a cause that names no axis gets the only one that can be meant."""
    best: dict[tuple[str, str | None], Cause] = {}
    for cause in found:
        key = (cause.cause, cause.axis or only)
        if key not in best or best[key].confidence < cause.confidence:
            best[key] = Cause(cause=cause.cause, axis=cause.axis or only, confidence=cause.confidence)
    return tuple(sorted(best.values(), key=lambda cause: -cause.confidence)[:MOST_CAUSES])
