"""Results: what the checks found about one case, before it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from conformance.cases import Case
from conformance.timeline import Timeline

VERDICTS = ("pass", "fail", "error", "hang", "crash", "unsupported", "waived")


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One signature that fits: what went wrong, the mesh axis, and how surely (0 to 1)."""

    cause: str
    axis: str | None
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Worst:
    """The comparison nearest to, or farthest over, its bound."""

    tensor: str  # `step 1: gradients/layers.0.feedforward.up.weight rows 0-8`
    error: float
    bound: float


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check applied to one case.

    compared   how many comparisons were made; a check that made none fails
    first      the first tensor to diverge, in data-flow order
    ranks      the ranks on which it diverges
    detail     one sentence for people
    ratios     observable group -> worst error / bound (for calibration and the report's colours)
    """

    check: str
    verdict: str
    compared: int
    worst: Worst | None = None
    first: str | None = None
    ranks: tuple[int, ...] = ()
    detail: str = ""
    ratios: Mapping[str, float] = field(default_factory=dict)
    diagnosis: tuple[Cause, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """A judged case. `phases` splits `seconds`; `stack` and `output` are what a broken worker left behind.

    `timeline` is what each rank planned to do when, where there is such a plan.
    """

    case: Case
    framework: str
    verdict: str
    checks: tuple[CheckResult, ...] = ()
    seconds: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    stack: str = ""
    output: str = ""
    reproduce: str = ""
    timeline: Timeline | None = None

    @property
    def as_expected(self) -> bool:
        """`pass` where it must pass; `unsupported` where the standing matrix says so."""
        return self.verdict in (self.case.expect, "waived")
