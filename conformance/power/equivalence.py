"""Mutants that are no bugs: two proofs that a mutation changes nothing, and no other counts.

* by law: the operator changes nothing whatever the values are (`Operator.neutral`), such as the maximum of a maximum;
* by the bits: every observation, parameter and optimizer slot of every step has the same bits on every rank as without
  the mutation, and the operator is known to leave such values alone (`Operator.blind_to`), such as small counts. Where
  the operator moves a term to another device of the same sum (`Operator.reorders`), the last bits may differ: by at
  most ULPS units in the last place of the largest element of the tensors of its kind in that step. The terms of a sum
  may be so large, though they cancel: the gradient of a key bias is nothing but what rounding leaves of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from conformance.cases.case import Case
from conformance.cases.resolve import resolve
from conformance.runner.run import TIMEOUT_SECONDS
from conformance.trace.operators import OPERATORS
from conformance.workers.jobs import CaseJob
from conformance.workers.pool import Workers

ULPS = 8


def why_equivalent(case: Case, reduction: str | None, workers: Workers) -> str | None:
    """The proof that the mutation of this case changes nothing, in a sentence; None where there is none."""
    assert case.mutation is not None
    operator = OPERATORS[case.mutation.operator]
    reason = operator.neutral(reduction)
    if reason is None and operator.blind_to is not None and _same_values(case, workers, operator.reorders):
        bits = "keeps its bits but for the order of a sum" if operator.reorders else "keeps its bits"
        reason = f"every observation {bits}, and the operator leaves alone {operator.blind_to}"
    return reason


def _same_values(case: Case, workers: Workers, reordered: bool) -> bool:
    mutated, unchanged = _values(case, workers), _values(replace(case, mutation=None), workers)
    if mutated is None or unchanged is None or mutated.keys() != unchanged.keys():
        return False
    largest = _largest(unchanged)
    return all(
        _alike(mutated[key], value, ULPS * largest[_kind(key)] if reordered else 0.0)
        for key, value in unchanged.items()
    )


Key = tuple[int, str, int]  # step, observation, rank


def _largest(values: Mapping[Key, np.ndarray]) -> dict[tuple[int, str], float]:
    """(step, kind of observation) -> the largest finite element of its tensors."""
    largest: dict[tuple[int, str], float] = {}
    for key, value in values.items():
        own = np.abs(value[np.isfinite(value)]).max(initial=0.0)
        largest[_kind(key)] = max(largest.get(_kind(key), 0.0), float(own))
    return largest


def _kind(key: Key) -> tuple[int, str]:
    """`gradients` of `gradients/w`."""
    return key[0], key[1].partition("/")[0]


def _values(case: Case, workers: Workers) -> dict[Key, np.ndarray] | None:
    """(step, observation, rank) -> what that rank holds."""
    target = resolve(case)
    job = CaseJob(
        case=case,
        framework=target.framework,
        target=target.path,
        determinism=False,
        input_sensitivity=False,
        trace=False,
    )
    evidence = workers.run(job, TIMEOUT_SECONDS).evidence
    if evidence is None:
        return None
    return {
        (step, name, rank): block.value
        for step, observations in enumerate(evidence.steps)
        for name, observed in observations.items()
        for block in observed.blocks
        for rank in block.ranks
    }


def _alike(mutated: np.ndarray, unchanged: np.ndarray, units: float) -> bool:
    """Whether all bits are alike, or elements differ by no more than `units` times what is next to 1."""
    if mutated.shape != unchanged.shape or mutated.dtype != unchanged.dtype:
        return False
    if not units or not np.issubdtype(unchanged.dtype, np.floating):
        return mutated.tobytes() == unchanged.tobytes()
    with np.errstate(invalid="ignore"):  # of infinities, which are alike or not
        near = np.abs(mutated - unchanged) <= units * np.finfo(unchanged.dtype).eps
    return bool((near | (mutated == unchanged)).all())
