"""What is said where reference or candidate of a float64 case compute part in a narrower dtype."""

from __future__ import annotations

from collections.abc import Sequence

from conformance.evidence.arithmetic import BITS, COMPUTATION, Operation
from conformance.evidence.comparison import CaseRun
from conformance.evidence.tolerance import BOUNDS, EPSILON, bounded_as
from conformance.records.results import LESS


def sentence(case_run: CaseRun) -> str:
    """Which side computes what in which dtype, where, what follows, and what to run; empty where nothing does."""
    reference, candidate = case_run.reference.lower, _narrow(case_run)
    if reference:
        dtype = case_run.precision
        both = f" So does the candidate: {_places(candidate)}." if candidate else ""
        return (
            f"The reference computes in {dtype}: {_places(reference)}. It is good to about "
            f"{EPSILON[bounded_as(dtype)]:.0e} only, and the candidate is held to that.{both}{_rerun(dtype)}"
        )
    narrow = explained(case_run)
    if not narrow:
        return ""
    dtype = narrow[0].dtype
    return (
        f"The candidate computes in {dtype}: {_places(narrow)}. The reference does not; rounding to {dtype} can "
        f"explain all that differs.{_rerun(dtype)}"
    )


def not_held(case_run: CaseRun) -> str:
    """To what less the rule was held; empty where it was held in full."""
    if not case_run.reference.lower:
        return ""
    dtype, exact = case_run.precision, case_run.reference.exact
    held = f"; {len(exact)} tensors of step 1, which that does not reach, are held in full" if exact else ""
    return f"{LESS}{dtype} rounding: the reference computes in that{held}"


def explained(case_run: CaseRun) -> tuple[Operation, ...]:
    """What only the candidate rounds to fewer bits, where such rounding explains all that diverges.

    The response of the reference to a rounding grows as the rounding does: the yardstick of the narrower dtype is
    that of float64, times the ratio of their roundings.
    """
    narrow = [operation for operation in _narrow(case_run) if BITS[operation.dtype] < BITS[case_run.precision]]
    if not narrow or case_run.precision != "float64":
        return ()
    dtype = bounded_as(narrow[0].dtype)
    most = BOUNDS[dtype] * EPSILON[dtype] / EPSILON["float64"]
    ratios = [comparison.excess.ratio for comparison in case_run.comparisons]
    return tuple(narrow) if case_run.bound < max(ratios, default=0.0) <= most else ()


def _narrow(case_run: CaseRun) -> list[Operation]:
    return [operation for operation in case_run.evidence.arithmetic or () if operation.role == COMPUTATION]


def _places(operations: Sequence[Operation]) -> str:
    return ", ".join(
        f"{operation.operation} at {operation.place}" if operation.place else operation.operation
        for operation in operations
    )


def _rerun(dtype: str) -> str:
    """Only of dtypes that a case may have."""
    return f" Run with dtype='{dtype}' to hold the candidate to that dtype's own bound." if dtype in BOUNDS else ""
