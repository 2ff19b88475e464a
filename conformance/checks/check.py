"""What a check is: one rule of judgement, with the condition under which it applies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

from conformance.evidence.comparison import CaseRun, TensorComparison
from conformance.evidence.gather import covered, ranks_beyond
from conformance.evidence.tolerance import allowed
from conformance.records.results import CheckResult, Figure, Worst

LATER_STEPS, INPUT_SENSITIVITY, DETERMINISM = "later_steps", "input_sensitivity", "determinism"
TRACE, RELATION_RUNS = "trace", "relations"


class Check(ABC):
    """One rule of judgement. `rule` is what `shardproof explain` prints.

    `needs` are the runs besides the first step that it looks at: the later steps, a step per batch key with that key
    changed, the first step again, its trace, or the runs of the contract's relations. `of_values` is whether what it
    judges are the numbers that a step computes; else it is what the program stores or sends.
    """

    name: ClassVar[str]
    rule: ClassVar[str]
    needs: frozenset[str] = frozenset()
    of_values: ClassVar[bool] = True

    @abstractmethod
    def applies(self, case_run: CaseRun) -> bool:
        """Whether the rule says anything about this kind of case."""

    @abstractmethod
    def judge(self, case_run: CaseRun) -> CheckResult:
        """Apply the rule."""

    def result(self, *, compared: int, failures: Sequence[str] = (), **fields: object) -> CheckResult:
        """A pass, or a fail with the first sentence; a check that compared nothing is a failure."""
        if compared == 0 and not failures:
            failures = [f"The check '{self.name}' had nothing to compare."]
        fields.setdefault("detail", failures[0] if failures else "")
        fields.setdefault("failed", len(failures))
        return CheckResult(check=self.name, verdict="fail" if failures else "pass", compared=compared, **fields)  # type: ignore[arg-type]

    def unsupported(self, reason: str) -> CheckResult:
        """The rule cannot be applied here, and why: shown, never counted as a pass."""
        return CheckResult(check=self.name, verdict="unsupported", compared=0, detail=reason, not_held=reason)


def within_bounds(
    check: Check, case_run: CaseRun, comparisons: Iterable[TensorComparison], bound: float
) -> CheckResult:
    """Judge tensors by their excess error; the first one beyond its bound in data-flow order is where to look."""
    compared = list(comparisons)
    if not compared:
        return check.result(compared=0)
    beyond = [comparison for comparison in compared if not comparison.excess.ratio <= bound]
    worst = max(compared, key=lambda comparison: comparison.excess.ratio)
    first = beyond[0] if beyond else None
    share = f"{len(beyond)} of {len(compared)} tensors"
    return check.result(
        compared=sum(comparison.excess.blocks for comparison in compared),
        failures=[] if first is None else [_sentence(first, share, bound)],
        worst=Worst(tensor=worst.label, error=worst.excess.error, bound=bound * worst.excess.yardstick),
        first=first.label if first else None,
        ranks=() if first is None else _ranks(first, case_run, bound),
        ratios=_ratios(compared, bound),
        failed=len(beyond),
        allowed=bound,
        figures=tuple(_figure(comparison) for comparison in compared),
    )


def _sentence(first: TensorComparison, share: str, bound: float) -> str:
    held = covered(first.observed)
    if not held.all():
        return f"No rank holds {int((~held).sum())} of {held.size} elements of {first.label}; {share} are wrong."
    off = f"{first.label} is off by {first.excess.error:.3g}"
    rounding = f"rounding explains {first.excess.yardstick:.3g}"
    return f"{off}; {rounding}, {share} are beyond {bound:g} times that."


def _ranks(first: TensorComparison, case_run: CaseRun, bound: float) -> tuple[int, ...]:
    """Those that hold an element beyond the bound."""
    limit = allowed(first.magnitude, first.noise, first.epsilon, bound)
    return ranks_beyond(first.observed, first.expected, limit, case_run.case.mesh)


def _figure(comparison: TensorComparison) -> Figure:
    excess = comparison.excess
    return Figure(tensor=comparison.label, error=excess.error, yardstick=excess.yardstick, blocks=excess.blocks)


def _ratios(compared: list[TensorComparison], bound: float) -> dict[str, float]:
    """Observable group (`gradients`, `outputs`, ...) -> largest error / bound."""
    ratios: dict[str, float] = {}
    for comparison in compared:
        group = comparison.tensor.partition("/")[0]
        ratios[group] = max(
            ratios.get(group, 0.0), comparison.excess.ratio / bound if bound else comparison.excess.ratio
        )
    return ratios
