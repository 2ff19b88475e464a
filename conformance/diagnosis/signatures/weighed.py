"""How much each row of a batch counts in a gradient: lost microbatches, means of means, rows that count twice.

A loss that is a mean over rows has a gradient that is a weighted sum of those of single rows, which the reference says.
The weights of a wrong gradient are found by least squares, beside those of the right one: what is left is their ratio.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from conformance.diagnosis.signatures.means import MEAN_OF_MEANS
from conformance.diagnosis.signatures.parts_of_batch import cut, parts_of, rows_along, rows_of_ranks
from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.evidence.comparison import CaseRun, TensorComparison
from conformance.records.results import Cause

OF_PARTS = {
    part: f"mean of means: each {part} is divided by its own valid elements" for part in ("slice", "microbatch")
}
OF_ROWS = "mean of means: each row divides by its own elements"
NEVER = "no gradient arrives from {}: '{}' is without it, other gradients are not"
FIT = 1e-8  # of what least squares leave, relative to the gradient
ALIKE = 1e-6  # of ratios that are the same
SURE = 0.92
MOST_PARAMETERS = 1 << 19  # of a model that is run once for each row
MOST_GRADIENTS = 2  # that are asked for: each has the model run once more for each row
ELEMENTS = 2  # of a gradient for each row at the least: fewer fit any weights
Groups = Sequence[np.ndarray]  # rows of each


@dataclass(frozen=True, kw_only=True)
class _Division:
    """One way in which a step divides rows: by the positions along an axis, or in parts, one after the other."""

    groups: Groups
    lost: str  # said of the groups that do not count
    wrongly: str  # said of those that count too much or too little
    averaged: str  # said where each group is divided by its own elements
    axis: str | None = None
    last: str = ""  # said where that is the last group alone


def rows_weighed(case_run: CaseRun, diverging: Sequence[TensorComparison]) -> Iterator[Cause]:
    """Of wrong gradients of the first step, where all that goes before is right: of the largest that is such a sum.

    What two modules share may be no such sum, where the gradient of one of them is right.
    """
    first = [comparison for comparison in diverging if comparison.step == 0]
    gradients = [comparison for comparison in first if comparison.tensor.startswith("gradients/")]
    if not gradients or any(each.tensor.startswith(("outputs/", "activations/", "masks/")) for each in first):
        return
    if sum(value.size for value in case_run.reference.initial.values()) > MOST_PARAMETERS:
        return
    wrong = {comparison.tensor for comparison in gradients}
    some = any(name.startswith("gradients/") and name not in wrong for name in case_run.steps[0])
    by_size = sorted(gradients, key=lambda comparison: -comparison.expected.size)
    for comparison in by_size[:MOST_GRADIENTS]:
        suspect = DivergedTensor(comparison=comparison, case_run=case_run)
        weights = _weights(suspect, case_run.rows(suspect.tensor))
        if weights is not None:
            yield from _causes(suspect, *weights, some)
            return


def _weights(suspect: DivergedTensor, rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """[rows]: what each counts in the right gradient, and by what factor that is off; NaN of rows without a gradient.

    None where the gradient is no such sum, or where rows cannot be told apart.
    """
    if not 1 < len(rows) <= suspect.expected.size / ELEMENTS:
        return None
    finite = all(np.isfinite(x).all() for x in (suspect.value, suspect.expected, *rows))
    if not finite or any(row.shape != suspect.expected.shape for row in rows):
        return None
    terms = np.stack([row.ravel() for row in rows], axis=1)
    live = np.abs(terms).max(axis=0) > 0
    right, held = (_fitted(terms[:, live], whole.ravel()) for whole in (suspect.expected, suspect.value))
    if right is None or held is None or not np.abs(right).min(initial=np.inf) > ALIKE * np.abs(right).max(initial=0.0):
        return None
    counts, factors = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    counts[live], factors[live] = right, held / right
    return counts, factors


def _fitted(terms: np.ndarray, whole: np.ndarray) -> np.ndarray | None:
    if not terms.size:
        return None
    lengths = np.linalg.norm(terms, axis=0)
    solution, _, rank, _ = np.linalg.lstsq(terms / lengths, whole, rcond=1e-9)
    left = np.linalg.norm(terms @ (solution / lengths) - whole)
    return solution / lengths if rank == terms.shape[1] and left <= FIT * np.linalg.norm(whole) else None


def _causes(suspect: DivergedTensor, counts: np.ndarray, factors: np.ndarray, some: bool) -> Iterator[Cause]:
    """`some`: other gradients are right, so that the rows have been computed."""
    known = factors[~np.isnan(factors)]
    if _same(known):
        return  # a factor, and no weight
    name, divisions = suspect.tensor, list(_divisions(suspect, len(factors), some))
    for division in divisions:
        means = [_of_group(factors, group) for group in division.groups]
        if any(mean is None for mean in means):
            continue
        of_groups = np.array([mean for mean in means if mean is not None])
        said = _said(division, of_groups, [float(np.nansum(counts[group])) for group in division.groups])
        if said:
            basis = f"of the rows of which '{name}' is a sum, those of each count {_spoken(of_groups)} times"
            yield Cause(cause=said, axis=division.axis, confidence=SURE, axis_confidence=SURE, basis=basis)
            return
    if _same((counts * factors)[~np.isnan(factors)]):
        basis = f"in '{name}' all rows count alike, whatever valid elements they have"
        yield Cause(cause=OF_ROWS, axis=None, confidence=SURE, basis=basis)
        return
    yield _of_rows(name, factors, some)


def _of_rows(name: str, factors: np.ndarray, some: bool) -> Cause:
    """Rows that follow no rule: how often they count says what is wrong, where that is a number of times."""
    wrong = [row for row, factor in enumerate(factors) if not np.isnan(factor) and not _same([factor, 1.0])]
    rows = f"rows {', '.join(map(str, wrong[:8]))}{', ...' if len(wrong) > 8 else ''}"
    times = round(float(factors[wrong].mean()))
    counted = times >= 0 and _same([*factors[wrong], times])
    words = f"{rows} of the batch count wrongly"
    if counted and times:
        words = f"{words}: {times} times instead of once"
    elif counted:
        words = NEVER.format(rows, name) if some else f"{rows} of the batch do not count"
    basis = f"in '{name}' they count {_spoken(factors[wrong])} times"
    return Cause(cause=words, axis=None, confidence=0.85, basis=basis, place=not counted)


def _of_group(factors: np.ndarray, group: np.ndarray) -> float | None:
    """The factor of all rows of a group, NaN where none has a gradient; None where they differ."""
    known = factors[group][~np.isnan(factors[group])]
    if not len(known):
        return float("nan")
    return float(known.mean()) if _same(known) else None


def _said(division: _Division, factors: np.ndarray, counts: Sequence[float]) -> str:
    """What it means that whole groups count so many times; empty where all count alike."""
    known = ~np.isnan(factors)
    if known.sum() < 2 or _same(factors[known]):
        return ""
    lost = [place for place, factor in enumerate(factors) if abs(factor) <= ALIKE]
    if lost == [len(factors) - 1] and division.last:
        return division.last
    if lost:
        return division.lost.format(", ".join(map(str, lost)))
    if _same((factors * np.array(counts))[known]):
        return division.averaged
    places = ", ".join(str(place) for place in np.flatnonzero(known) if not _same([factors[place], 1.0]))
    return division.wrongly.format(places)


def _divisions(suspect: DivergedTensor, rows: int, some: bool) -> Iterator[_Division]:
    held = rows_of_ranks(suspect, rows)
    for axis in suspect.axes:
        groups = [np.flatnonzero(part) for part in rows_along(suspect, axis, held, rows)]
        if len({group.tobytes() for group in groups}) > 1 and sum(map(len, groups)) == rows:
            rows_of = f"reduction missing: rows of positions {{}} of {axis}"
            lost, wrongly = f"{rows_of} do not count", f"{rows_of} count wrongly"
            yield _Division(groups=groups, lost=lost, wrongly=wrongly, averaged=MEAN_OF_MEANS, axis=axis)
    recipe, blocks = suspect.case_run.contract.recipe, list({part.tobytes(): part for part in held.values()}.values())
    for part, shares in parts_of(recipe):
        if all(len(block) % sum(shares) == 0 for block in blocks):
            yield _in_parts(part, [cut(block, shares) for block in blocks], suspect.tensor if some else "")


def _in_parts(part: str, cut: Sequence[Sequence[np.ndarray]], alone: str) -> _Division:
    """Parts of the rows of every rank, in turn; `alone` is a gradient that is wrong while others are not."""
    lost, last = f"{part} {{}} of the batch: its rows do not count", f"the last {part} does not count"
    if alone:
        lost, last = NEVER.format(f"{part} {{}}", alone), NEVER.format(f"the last {part}", alone)
    return _Division(
        groups=[np.concatenate(rows) for rows in zip(*cut, strict=True)],
        lost=lost,
        wrongly=f"{part} {{}} of the batch: its rows count wrongly",
        averaged=OF_PARTS[part],
        last=last,
    )


def _same(factors: Sequence[float] | np.ndarray) -> bool:
    return bool(np.ptp(factors) <= ALIKE * max(1.0, float(np.abs(factors).max())))


def _spoken(factors: np.ndarray) -> str:
    said = ", ".join("-" if np.isnan(factor) else f"{factor:.3g}" for factor in factors[:8])
    return f"{said}, ..." if len(factors) > 8 else said
