"""Diagnosis: which known signature fits the first tensors that diverge, on which mesh axis, and how surely."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from conformance.diagnosis.signatures.added import shards_added
from conformance.diagnosis.signatures.arithmetic import computed_in, computed_narrowly
from conformance.diagnosis.signatures.copies import copies_differ
from conformance.diagnosis.signatures.coupled import coupled, decay_in_gradient
from conformance.diagnosis.signatures.decay import decayed
from conformance.diagnosis.signatures.divisors import one_part_counted
from conformance.diagnosis.signatures.history import late, narrower, never_stored, not_finite, stale
from conformance.diagnosis.signatures.masks import another_mask, unhidden
from conformance.diagnosis.signatures.means import mean_of_means
from conformance.diagnosis.signatures.norms import gradient_rescaled, norm_miscounted, norms_added
from conformance.diagnosis.signatures.order import exchanged, of_other_rows, reordered, rolled, without_gradient
from conformance.diagnosis.signatures.rates import rate_of_later_step, rate_on_positions
from conformance.diagnosis.signatures.repeats import repeats_in_norm, repeats_scaled
from conformance.diagnosis.signatures.scale import bias_repeated, scaled
from conformance.diagnosis.signatures.shapes import misshapen
from conformance.diagnosis.signatures.shards import permuted, seams_wrong, shards_wrong
from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.diagnosis.signatures.traffic import communication_differs, only_axis
from conformance.diagnosis.signatures.unreached import moved_by_zeros
from conformance.diagnosis.signatures.weighed import rows_weighed
from conformance.evidence.comparison import CaseRun, TensorComparison
from conformance.records.results import Cause

SIGNATURES: tuple[Callable[[DivergedTensor], Iterator[Cause]], ...] = (
    not_finite,
    copies_differ,
    another_mask,
    unhidden,
    mean_of_means,
    one_part_counted,
    bias_repeated,
    repeats_scaled,
    shards_added,
    scaled,
    permuted,
    never_stored,
    moved_by_zeros,
    stale,
    decayed,
    coupled,
    decay_in_gradient,
    norm_miscounted,
    norms_added,
    repeats_in_norm,
    gradient_rescaled,
    exchanged,
    rolled,
    reordered,
    of_other_rows,
    without_gradient,
    seams_wrong,
    shards_wrong,
    rate_of_later_step,
    rate_on_positions,
    late,
    narrower,
)
UNKNOWN = "no known signature"
MOST_SUSPECTS = 4
LATER = 0.93  # how much less sure it is what a later tensor says: it may be wrong because of the first
MOST_CAUSES = 5
WHY = 0.8  # how sure a cause must be to stand before a place


def diagnose(case_run: CaseRun, diverging: list[TensorComparison], first: str | None) -> tuple[Cause, ...]:
    """The causes that fit, surest first. The first diverging tensor counts most; later ones are its consequences.

    first   the first tensor that is wrong; None where none is, and `diverging` has the one that is farthest off
    """
    causes = [
        *communication_differs(case_run, first),
        *misshapen(case_run),
    ]
    for place, comparison in enumerate(diverging[:MOST_SUSPECTS]):
        suspect = DivergedTensor(comparison=comparison, case_run=case_run)
        for signature in SIGNATURES:
            causes += [_weighted(cause, comparison.label, LATER if place else 1.0) for cause in signature(suspect)]
    if not any(cause.confidence >= WHY and not cause.place for cause in causes):
        causes += rows_weighed(case_run, diverging)
    only = only_axis(case_run, diverging[0].tensor) if diverging else None
    if only is not None:
        basis = f"no signature fits; of the axes only {only} divides what makes the tensor"
        sure = 0.5 if len([size for _, size in case_run.case.mesh.sizes if size > 1]) == 1 else 0.1
        causes.append(Cause(cause=UNKNOWN, axis=only, confidence=0.1, axis_confidence=sure, basis=basis, place=True))
    in_program = [*computed_in(case_run), *computed_narrowly(case_run)]  # these know their axis, or have none
    return ranked([*in_program, *(_on(cause, only) for cause in causes)])


def ranked(causes: Iterable[Cause], most: int = MOST_CAUSES) -> tuple[Cause, ...]:
    """What surely says why before what says where, surest first; each cause once."""
    best: dict[tuple[str, str | None], Cause] = {}
    for cause in causes:
        key = (cause.cause, cause.axis)
        if key not in best or best[key].confidence < cause.confidence:
            best[key] = cause
    return tuple(sorted(best.values(), key=_rank))[:most]


def _rank(cause: Cause) -> tuple[bool, float, bool]:
    return cause.place or cause.confidence < WHY, -cause.confidence, cause.place


def surest(diagnoses: Iterable[Sequence[Cause]]) -> Cause | None:
    """The first of all causes that several checks give."""
    return next(iter(ranked((cause for causes in diagnoses for cause in causes), 1)), None)


def _weighted(cause: Cause, label: str, weight: float) -> Cause:
    basis = f"{label}: {cause.basis}" if cause.basis else label
    return replace(
        cause,
        confidence=round(cause.confidence * weight, 3),
        axis_confidence=round(cause.axis_sure * weight, 3) if cause.axis else None,
        basis=basis,
    )


def _on(cause: Cause, only: str | None) -> Cause:
    """A cause that names no axis gets the only one that can be meant: a guess, until a run has shown it."""
    if cause.axis is not None or only is None:
        return cause
    return replace(cause, axis=only, axis_confidence=min(0.5, cause.confidence))
