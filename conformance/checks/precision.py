"""What the precision policy of a contract says of the arithmetic in a program, read from the program itself."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.evidence.arithmetic import BITS, GRADIENTS, REDUCTION, STATISTICS, Operation
from conformance.evidence.comparison import CaseRun

_WORDS = {
    REDUCTION: "{tensor} is summed over {axes} in {dtype} ({what}); the policy sums gradients in {wanted}.",
    GRADIENTS: "{tensor} is added up or kept in {dtype} ({what}); the policy keeps gradients in {wanted}.",
    STATISTICS: "{tensor} is computed in {dtype} ({what}); the policy computes statistics in {wanted}.",
}


def too_narrow(case_run: CaseRun) -> tuple[Operation, ...]:
    """The operations that the policy wants in a wider dtype; none where nothing is promised, or nothing traced."""
    if not case_run.contract.held or case_run.case.dtype == "float64":
        return ()
    operations = case_run.evidence.arithmetic or ()
    return tuple(
        operation
        for operation in operations
        if BITS[operation.dtype] < BITS[wanted(operation, case_run)] and _applies(operation, case_run)
    )


def wanted(operation: Operation, case_run: CaseRun) -> str:
    """The dtype that the policy wants; what the implementation declares to reduce in counts where it is narrower."""
    policy, dtype = case_run.contract.recipe.precision, case_run.case.dtype
    if operation.role == STATISTICS:
        return policy.dtype(STATISTICS, dtype)
    declared = case_run.evidence.declarations.reduction_dtype
    reduction = [policy.dtype(REDUCTION, dtype), *([declared] if declared in BITS else [])]
    # What is rounded between two sums may be rounded for the next of them.
    roles = reduction if operation.role == REDUCTION else [*reduction, policy.dtype(GRADIENTS, dtype)]
    return min(roles, key=BITS.__getitem__)


def _applies(operation: Operation, case_run: CaseRun) -> bool:
    """A sum within one differentiation is no sum over slices."""
    recipe = case_run.contract.recipe
    return operation.role != GRADIENTS or operation.operation not in ("add", "sub", "sum") or recipe.accumulation > 1


def sentences(case_run: CaseRun) -> Iterator[str]:
    for operation in too_narrow(case_run):
        what = f"{operation.operation} at {operation.place}" if operation.place else operation.operation
        yield _WORDS[operation.role].format(
            tensor=operation.tensor or "a statistic",
            axes=" and ".join(f"'{axis}'" for axis in operation.axes),
            dtype=operation.dtype,
            what=what,
            wanted=wanted(operation, case_run),
        )
