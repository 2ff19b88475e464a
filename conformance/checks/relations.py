"""`relations`: relations between runs of the same program, which need no reference and no tolerance of their own."""

from __future__ import annotations

from collections.abc import Sequence

from conformance.checks.check import RELATION_RUNS, Check
from conformance.evidence.comparison import CaseRun
from conformance.records.results import Cause, CheckResult
from conformance.relations import RELATIONS
from conformance.relations.relation import Finding

SURE = 0.9  # that the relation names its own cause, where no tensor of the case itself diverges


class Relations(Check):
    name = "relations"
    needs = frozenset({RELATION_RUNS})
    rule = (
        "Every relation that the contract names holds: other device orders, permuted rows, changed later tokens, an "
        "empty mask, recomputation, other slices, saving and loading elsewhere, damaged checkpoints, a second model, "
        "initial values and dropout masks, as far as the contract asks for them. A relation that compared nothing "
        "fails."
    )

    def applies(self, case_run: CaseRun) -> bool:
        if not case_run.contract.relations or case_run.case.dtype != "float64":
            return False
        return bool(case_run.evidence.related or case_run.evidence.unsupported_relations)

    def judge(self, case_run: CaseRun) -> CheckResult:
        unsupported_relations = case_run.evidence.unsupported_relations
        asked = [relation for relation in case_run.contract.relations if relation not in unsupported_relations]
        reasons = _spoken([f"{relation} ({reason.rstrip('.')})" for relation, reason in unsupported_relations.items()])
        if not asked:
            return self.unsupported(reasons)
        findings = [(relation, said) for relation in asked for _, said in _findings(case_run, relation)]
        failing = [(relation, said) for relation, said in findings if said]
        known = (finding for finding in failing if finding[0] in RELATIONS)
        broken = dict.fromkeys(relation for relation, said in known if said != _nothing(relation))
        more = f" {len(failing)} of {len(findings)} comparisons fail." if len(failing) > 1 else ""
        return self.result(
            compared=len(findings),
            failures=[said for _, said in failing],
            first=failing[0][0] if failing else None,
            diagnosis=tuple(_cause(case_run, relation) for relation in broken),
            detail=f"{failing[0][1]}{more}" if failing else reasons,
        )


def _findings(case_run: CaseRun, relation: str) -> Sequence[Finding]:
    """What a relation says of its extra runs; one that compared nothing has not been shown to hold."""
    if relation not in RELATIONS:
        return [("name", f"The contract asks for the relation '{relation}'; the relations are {', '.join(RELATIONS)}.")]
    findings = list(RELATIONS[relation].judge(case_run, case_run.evidence.related.get(relation, ())))
    return findings or [("extra runs", _nothing(relation))]


def _nothing(relation: str) -> str:
    return f"The relation '{relation}' had nothing to compare."


def _cause(case_run: CaseRun, relation: str) -> Cause:
    broken, extra_runs = RELATIONS[relation], case_run.evidence.related.get(relation, ())
    return Cause(cause=broken.cause(extra_runs), axis=broken.axis(extra_runs), confidence=SURE)


def _spoken(unsupported_relations: Sequence[str]) -> str:
    return f"Not supported: {'; '.join(unsupported_relations)}." if unsupported_relations else ""
