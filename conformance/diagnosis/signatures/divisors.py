"""Signature of a divisor: the valid elements of one part of a batch are taken for those of every part, or of all.

Law: the sums of all parts are divided by the valid elements of all of them, so a wrong number of these divides the loss
and all gradients alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conformance.diagnosis.signatures.parts_of_batch import cut, parts_of, rows_along, rows_of_ranks
from conformance.diagnosis.signatures.scale import COUNT, near
from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.records.results import Cause

# How sure, where the number is observed in several steps, and where it is not. That of one position may be the largest
# of all, taken in place of the sum, so that values inside the step are looked at too.
OF_ALL_STEPS, OF_ONE, OF_POSITION = 0.95, 0.85, 0.75
DIVIDED, REPORTED = "divided by", "reported as"


@dataclass(frozen=True, kw_only=True)
class _Count:
    """The valid elements of one part, so many times; `axis` of what lies on a position along it."""

    part: str
    rows: np.ndarray
    times: int
    of: str  # what there are so many of
    axis: str | None = None

    def number(self, mask: np.ndarray) -> int:
        return self.times * int(np.count_nonzero(mask[self.rows]))


def one_part_counted(suspect: DivergedTensor) -> Iterator[Cause]:
    """The number of valid elements, the loss or a gradient is off by what one part of the batch has of them."""
    masks, step = _masks(suspect), suspect.step
    divided = suspect.tensor == "loss" or suspect.tensor.startswith("gradients/")
    if not 0 <= step < len(masks) or not (divided or suspect.tensor == COUNT):
        return
    total = int(np.count_nonzero(masks[step]))
    fitting = [count for count in _counts(suspect, len(masks[step])) if _fits(suspect, count, masks)]
    said = DIVIDED if divided or not _is_right(suspect, "loss") else REPORTED
    alike: dict[tuple[int, str | None, str], list[_Count]] = {}
    for count in fitting:
        alike.setdefault((count.times, count.axis, count.of), []).append(count)
    for counts in alike.values():
        words = _words(counts[0], " or ".join(count.part for count in counts))
        once = OF_ONE if counts[0].axis is None else OF_POSITION
        sure = (OF_ALL_STEPS if len(_numbers(suspect)) > 1 else once) / len(alike)
        basis = f"{counts[0].number(masks[step])} elements are taken for the {total} that are valid"
        yield Cause(cause=f"{said} {words}", axis=counts[0].axis, confidence=sure, axis_confidence=sure, basis=basis)


def is_of_slices(words: str) -> bool:
    """Whether the words of a cause say that the divisor is that of a slice."""
    return words.startswith((DIVIDED, REPORTED)) and "slice" in words


def _words(count: _Count, parts: str) -> str:
    valid = f"the valid elements of {parts}"
    return f"{count.of} times {valid}" if count.times > 1 else f"{valid} alone"


def _masks(suspect: DivergedTensor) -> Sequence[np.ndarray]:
    """Which elements of each step's batch are valid; none where the reference counts otherwise."""
    case_run, steps = suspect.case_run, len(suspect.case_run.steps)
    masks = [batch.get("mask") for batch in case_run.contract.batches(case_run.case.seed, steps)]
    known = [mask for mask in masks if mask is not None and mask.ndim]
    oracle = case_run.reference.oracle
    right = all(COUNT not in seen or seen[COUNT] == np.count_nonzero(m) for seen, m in zip(oracle, known, strict=False))
    return known if right and len(known) == len(masks) else []


def _counts(suspect: DivergedTensor, rows: int) -> Iterator[_Count]:
    """Of every part of the rows that differ by slices, microbatches, or positions along an axis."""
    held = rows_of_ranks(suspect, rows)
    for axis in suspect.axes:
        groups = [np.flatnonzero(part) for part in rows_along(suspect, axis, held, rows)]
        if sum(map(len, groups)) == rows:
            for position, group in enumerate(groups):
                for times in (1, len(groups)):
                    part = f"position {position}"
                    yield _Count(part=part, rows=group, times=times, of="the size of the axis", axis=axis)
    blocks = list({part.tobytes(): part for part in held.values()}.values())
    for name, shares in parts_of(suspect.case_run.contract.recipe):
        if all(len(block) % sum(shares) == 0 for block in blocks):
            parts = [np.concatenate(each) for each in zip(*(cut(block, shares) for block in blocks), strict=True)]
            for place, part_rows in enumerate(parts):
                called = {0: f"the first {name}", len(parts) - 1: f"the last {name}"}.get(place, f"{name} {place}")
                for times in (1, len(parts)):
                    yield _Count(part=called, rows=part_rows, times=times, of=f"the number of {name}s")


def _fits(suspect: DivergedTensor, count: _Count, masks: Sequence[np.ndarray]) -> bool:
    """Not where the factor is a whole one, which has other meanings."""
    number, total = count.number(masks[suspect.step]), int(np.count_nonzero(masks[suspect.step]))
    if not number or not total or any(near(ratio, round(ratio)) for ratio in (number / total, total / number)):
        return False
    if any(seen != count.number(masks[step]) for step, seen in _numbers(suspect).items()):
        return False
    factor = number / total if suspect.tensor == COUNT else total / number
    return suspect.explains(suspect.value, factor * suspect.expected, factor)


def _numbers(suspect: DivergedTensor) -> Mapping[int, float]:
    """step -> the number of valid elements that was counted, where it is a wrong one in any step."""
    counts = [other for other in suspect.case_run.comparisons if other.tensor == COUNT]
    wrong = any(not other.excess.ratio <= suspect.case_run.bound for other in counts)
    return {other.step: float(suspect.case_run.whole(other.observed)) for other in counts if wrong}


def _is_right(suspect: DivergedTensor, tensor: str) -> bool:
    found = [other for other in suspect.case_run.comparisons if (other.step, other.tensor) == (suspect.step, tensor)]
    return bool(found) and all(other.excess.ratio <= suspect.case_run.bound for other in found)
