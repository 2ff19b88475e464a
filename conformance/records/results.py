"""Results: what the checks found about one case, before it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, get_args

from conformance.cases.case import Case, Verdict
from conformance.contract.implementation import Framework
from conformance.contract.timeline import Timeline

DIAGNOSIS = "diagnosis"  # the phase of the further runs of a failed case
INSIDE = ("place", "compile", "step", "collect", "reference")  # the candidate's work, and the same of its reference
LESS = "below "
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What may be wrong, the mesh axis on which, how surely, and on what that stands.

    confidence       how often, of all that is said so surely, the cause is right (0 to 1)
    axis_confidence  the same of the axis; None: as sure as the cause
    basis            a sentence that can be checked: values that fit, a further run, two programs compared
    place            it says where or when the error shows, and not why
    """

    cause: str
    axis: str | None
    confidence: float
    axis_confidence: float | None = None
    basis: str = ""
    place: bool = False

    @property
    def axis_sure(self) -> float:
        """How surely the axis is right; 0 where none is named."""
        if self.axis is None:
            return 0.0
        return self.confidence if self.axis_confidence is None else self.axis_confidence


@dataclass(frozen=True, kw_only=True)
class Worst:
    """The comparison nearest to, or farthest over, its bound."""

    tensor: str  # `step 1: gradients/layers.0.feedforward.up.weight rows 0-8`
    error: float
    bound: float


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One tensor as it was decided: it holds where error <= bound * yardstick, in the worst of its row blocks.

    blocks  comparisons that it stands for
    """

    tensor: str
    error: float
    yardstick: float
    blocks: int = 1


@dataclass(frozen=True, kw_only=True)
class MemoryFigure:
    """Bytes per device of one kind of tensors.

    kind     `parameters`, `gradients`, `optimizer/<slot>`, `batch`, or `state`: all that a step hands to the next one
    most     on the rank that holds most, which is `rank`
    least    on the rank that holds least
    planned  the most that the declared placements give a device; None where nothing is declared
    """

    kind: str
    most: int
    rank: int
    least: int
    planned: int | None = None


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check applied to one case.

    compared   how many comparisons were made; a check that made none fails
    first      the first tensor to diverge, in data-flow order
    ranks      the ranks on which it diverges
    detail     one sentence for people
    not_held   what of the rule could not be held to here, one sentence; it is neither passed nor failed. Where the rule
               was held to less, `below <what>: <why>`
    ratios     observable group -> worst error / bound (for calibration and the report's colours)
    look       where to look next: the tensor, ranks and rows to print, and the command, one sentence
    memory     bytes per device, kind by kind (check `memory`)
    failed     how many comparisons do not hold
    allowed    how many yardsticks an error may be (the checks that have a tolerance)
    figures    every tensor as it was decided (the same checks)
    """

    check: str
    verdict: Verdict
    compared: int
    worst: Worst | None = None
    first: str | None = None
    ranks: tuple[int, ...] = ()
    detail: str = ""
    not_held: str = ""
    ratios: Mapping[str, float] = field(default_factory=dict)
    diagnosis: tuple[Cause, ...] = ()
    look: str = ""
    memory: tuple[MemoryFigure, ...] = ()
    failed: int = 0
    allowed: float | None = None
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """A judged case. `phases` splits `seconds`; `stack` and `output` are what a broken worker left behind.

    `timeline` is what each rank planned to do when, where there is such a plan. `missing` is the framework that is not
    installed, without which the case was not run. `alone` says what came out when the case was run once more, alone in
    fresh processes; `after` are the ids of earlier cases without which it does not fail.
    """

    case: Case
    framework: Framework
    verdict: Verdict
    checks: tuple[CheckResult, ...] = ()
    seconds: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    stack: str = ""
    output: str = ""
    reproduce: str = ""
    timeline: Timeline | None = None
    missing: str | None = None
    alone: str = ""
    after: tuple[str, ...] = ()

    @property
    def not_held(self) -> tuple[str, ...]:
        """What no check could hold the case to: `communication not held: The implementation ...`."""
        reasons = ((check.check, check.not_held) for check in self.checks if check.not_held)
        return tuple(f"{name} not held{' ' if why.startswith(LESS) else ': '}{why}" for name, why in reasons)

    @property
    def spoken(self) -> str:
        return spoken(self.verdict, self.not_held)

    @property
    def as_expected(self) -> bool:
        """`pass` where it must pass, `unsupported` where the standing matrix says so; or it cannot run here."""
        return self.missing is not None or is_expected(self.verdict, self.case.expect, self.case.devices)


def is_expected(verdict: str, expected: str, devices: str) -> bool:
    """Whether a verdict is the one of the standing matrix, which is that of emulated devices.

    On one device in place of a mesh any case may be unsupported: its program may leave nothing there to divide.
    """
    return verdict in (expected, "waived") or (devices == "single" and verdict == "unsupported")


def spoken(verdict: str, not_held: Sequence[str]) -> str:
    """`pass`, or `pass, communication not held`: a pass says what it is no pass of."""
    said = dict.fromkeys(sentence.partition(":")[0] for sentence in not_held)
    names = [part.removesuffix(" not held") for part in said if part.endswith(" not held")]
    parts = [part for part in said if not part.endswith(" not held")]
    parts += [f"{' and '.join(names)} not held"] if names else []
    return ", ".join([verdict, *parts]) if verdict == "pass" else verdict


class Timed(Protocol):
    """What took `seconds`, in phases: a result, or its record."""

    @property
    def seconds(self) -> float: ...

    @property
    def phases(self) -> Mapping[str, float]: ...


def overhead(results: Sequence[Timed]) -> float | None:
    """Share of the time that went outside INSIDE: tracing, transport, judging. None without results."""
    busy = sum(result.seconds for result in results)
    inside = sum(result.phases.get(phase, 0.0) for result in results for phase in INSIDE)
    return max(0.0, 1 - inside / busy) if busy else None
