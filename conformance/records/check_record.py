"""The record of one check: its figures, the worst of them, and what the diagnosis says."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import Field

from conformance.cases.usage import choose
from conformance.records.base import Number, Record, Verdict
from conformance.records.results import VERDICTS, Cause, CheckResult, Figure, MemoryFigure, Worst


class CauseRecord(Record):
    """What may be wrong; confidences from 0 to 1, of the axis the same as of the cause where it is not given."""

    cause: str
    axis: str | None = None
    confidence: Number = 0.0
    axis_confidence: Number | None = None
    basis: str = ""
    place: bool = Field(default=False, description="it says where or when the error shows, and not why")


class WorstRecord(Record):
    """The comparison nearest to its bound, or farthest beyond it."""

    tensor: str
    error: Number
    bound: Number

    @property
    def ratio(self) -> float:
        """error / bound; 0 / 0 is 0, anything else over 0 is infinite."""
        if self.error == 0:
            return 0.0
        return self.error / self.bound if self.bound else float("inf")


class FigureRecord(Record):
    """One tensor as it was decided: it holds where error <= `allowed` * yardstick, in the worst of its row blocks."""

    tensor: str
    error: Number
    yardstick: Number
    blocks: int = Field(ge=1)


class MemoryRecord(Record):
    """Bytes per device of one kind of tensors: on the rank with most, which it is, on that with least, and planned."""

    kind: str
    most: int = Field(ge=0)
    rank: int = Field(ge=0)
    least: int = Field(ge=0)
    planned: int | None = None


class CheckRecord(Record):
    """One check applied to one case."""

    check: str
    verdict: Verdict
    compared: int = Field(ge=0)
    worst: WorstRecord | None = None
    first: str | None = None
    ranks: tuple[int, ...] = ()
    detail: str = ""
    not_held: str = ""
    ratios: dict[str, Number] = Field(default_factory=dict)
    diagnosis: tuple[CauseRecord, ...] = ()
    look: str = ""
    memory: tuple[MemoryRecord, ...] = ()
    failed: int = Field(default=0, ge=0, description="how many comparisons do not hold")
    allowed: Number | None = Field(default=None, description="how many yardsticks an error may be")
    figures: tuple[FigureRecord, ...] = Field(default=(), description="every tensor; in a qualification only")


def check_record(check: CheckResult, figures: bool) -> CheckRecord:
    worst = None
    if check.worst is not None:
        worst = WorstRecord(tensor=check.worst.tensor, error=check.worst.error, bound=check.worst.bound)
    causes = tuple(CauseRecord(**asdict(cause)) for cause in check.diagnosis)
    return CheckRecord(
        check=check.check,
        verdict=check.verdict,
        compared=check.compared,
        worst=worst,
        first=check.first,
        ranks=tuple(check.ranks),
        detail=check.detail,
        not_held=check.not_held,
        ratios=dict(check.ratios),
        diagnosis=causes,
        look=check.look,
        memory=tuple(MemoryRecord(**asdict(figure)) for figure in check.memory),
        failed=check.failed,
        allowed=check.allowed,
        figures=tuple(FigureRecord(**asdict(figure)) for figure in check.figures) if figures else (),
    )


def check_result(check: CheckRecord) -> CheckResult:
    worst = None
    if check.worst is not None:
        worst = Worst(tensor=check.worst.tensor, error=check.worst.error, bound=check.worst.bound)
    causes = tuple(Cause(**cause.model_dump()) for cause in check.diagnosis)
    return CheckResult(
        check=check.check,
        verdict=choose("verdict", check.verdict, VERDICTS),
        compared=check.compared,
        worst=worst,
        first=check.first,
        ranks=check.ranks,
        detail=check.detail,
        not_held=check.not_held,
        ratios=check.ratios,
        diagnosis=causes,
        look=check.look,
        memory=tuple(MemoryFigure(**figure.model_dump()) for figure in check.memory),
        failed=check.failed,
        allowed=check.allowed,
        figures=tuple(Figure(**figure.model_dump()) for figure in check.figures),
    )
