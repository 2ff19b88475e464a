"""One case on emulated devices and on a single one: what was judged, and whether it is the same."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from conformance.records.results import CaseResult


class Judged(BaseModel):
    """What came of a case on one kind of devices; `checks` by their verdicts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: str
    checks: dict[str, str]
    reason: str
    seconds: float

    @classmethod
    def of(cls, result: CaseResult) -> Judged:
        return cls(
            verdict=result.verdict,
            checks={check.check: check.verdict for check in result.checks},
            reason=result.reason,
            seconds=round(result.seconds, 2),
        )


class Compared(BaseModel):
    """The same case on both; `case` is its id on emulated devices."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    emulated: Judged
    single: Judged

    @property
    def suite(self) -> str:
        return self.case.partition("/")[0]

    @property
    def alike(self) -> bool:
        """The same verdict, and the same of every check that both have."""
        return self.emulated.verdict == self.single.verdict and not self.differing

    @property
    def refused(self) -> bool:
        """One device says, in a sentence, that it cannot run it."""
        return not self.alike and self.single.verdict == "unsupported"

    @property
    def differing(self) -> tuple[str, ...]:
        """Checks that both have, with other verdicts."""
        common = self.emulated.checks.keys() & self.single.checks.keys()
        return tuple(sorted(name for name in common if self.emulated.checks[name] != self.single.checks[name]))

    @property
    def unheld(self) -> tuple[str, ...]:
        """Checks of emulated devices that the single one does not judge."""
        return tuple(sorted(self.emulated.checks.keys() - self.single.checks.keys()))
