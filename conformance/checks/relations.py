"""`relations`: laws between runs of the same program, which need no reference and no tolerance of their own."""

from __future__ import annotations

from collections.abc import Sequence

from conformance.checks.check import LAW_RUNS, Check
from conformance.evidence.comparison import Exhibit
from conformance.records.results import Cause, CheckResult
from conformance.relations import LAWS
from conformance.relations.law import Finding

SURE = 0.8  # that the law names its own cause, where no tensor of the case itself diverges


class Relations(Check):
    name = "relations"
    needs = frozenset({LAW_RUNS})
    rule = (
        "Every law that the contract names holds: other device orders, permuted rows, changed later tokens, an empty "
        "mask, recomputation, other slices, saving and loading elsewhere, damaged checkpoints, a second model, initial "
        "values and dropout masks, as far as the contract asks for them. A law that compared nothing fails."
    )

    def applies(self, exhibit: Exhibit) -> bool:
        if not exhibit.contract.relations or exhibit.case.dtype != "float64":
            return False
        return bool(exhibit.evidence.related or exhibit.evidence.declined)

    def judge(self, exhibit: Exhibit) -> CheckResult:
        declined = exhibit.evidence.declined
        asked = [law for law in exhibit.contract.relations if law not in declined]
        reasons = _spoken([f"{law} ({reason.rstrip('.')})" for law, reason in declined.items()])
        if not asked:
            return self.unsupported(reasons)
        findings = [(law, said) for law in asked for _, said in _findings(exhibit, law)]
        failing = [(law, said) for law, said in findings if said]
        broken = dict.fromkeys(law for law, _ in failing)
        more = f" {len(failing)} of {len(findings)} comparisons fail." if len(failing) > 1 else ""
        return self.result(
            compared=len(findings),
            failures=[said for _, said in failing],
            first=failing[0][0] if failing else None,
            diagnosis=tuple(_cause(exhibit, law) for law in broken),
            detail=f"{failing[0][1]}{more}" if failing else reasons,
        )


def _findings(exhibit: Exhibit, law: str) -> Sequence[Finding]:
    """What a law says of its trials; one that compared nothing has not been shown to hold."""
    if law not in LAWS:
        return [("name", f"The contract asks for the law '{law}'; the laws are {', '.join(LAWS)}.")]
    found = list(LAWS[law].judge(exhibit, exhibit.evidence.related.get(law, ())))
    return found or [("trials", f"The law '{law}' had nothing to compare.")]


def _cause(exhibit: Exhibit, law: str) -> Cause:
    axis = LAWS[law].axis(exhibit.evidence.related.get(law, ())) if law in LAWS else None
    return Cause(cause=f"breaks the law '{law}'", axis=axis, confidence=SURE)


def _spoken(declined: Sequence[str]) -> str:
    return f"Not supported: {'; '.join(declined)}." if declined else ""
