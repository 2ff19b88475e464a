"""The must-pass list: the standing cases of the profile `qualification`, and each program once more with drawn seeds.

The list belongs to a version of the suite; `python -m conformance.qualify.must_pass FOLDER` publishes it. A seed set
holds for one version: nobody can have tuned a program to inputs that did not exist when it was written.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from conformance.cases.case import DEVICES, Case
from conformance.cases.selection import Selection, select
from conformance.cases.suite import suites
from conformance.cases.usage import UsageError
from conformance.contract.contract import Contract
from conformance.records.run_record import RunRecord

PROFILE, REHEARSAL = "qualification", "smoke"
SEEDS = (202611, 611202)  # drawn for this version of the suite; the next one has others
LIST = "must-pass.json"


def must_pass(wanted: Selection, most_devices: int | None = None) -> list[Case]:
    """The cases of a selection on meshes of at most `most_devices`, those with drawn seeds last.

    The list is the same for all kinds of devices, whether or not this machine has them.
    """
    standing = [replace(case, devices=wanted.devices) for case in select(replace(wanted, devices=DEVICES[0]))]
    cases = [case for case in standing if most_devices is None or case.mesh.devices <= most_devices]
    if not cases:
        raise UsageError(f"No case of the must-pass list fits on {most_devices} devices: the smallest mesh takes 2.")
    return cases + list(_drawn(cases)) if wanted.profile == PROFILE else cases


def of_run(run: RunRecord) -> list[Case]:
    """The list within the scope of a run."""
    chosen, framework = tuple(run.selection.get("suites") or ()), run.selection.get("framework")
    wanted = Selection(suites=chosen, profile=run.profile, framework=framework, devices=run.devices)
    return must_pass(wanted, run.machine.get("most_devices"))


def digest(cases: Iterable[Case]) -> str:
    """SHA-256 of a list: ids and what must come out, a line each."""
    return hashlib.sha256("".join(f"{case.id} {case.expect}\n" for case in cases).encode()).hexdigest()


def _drawn(cases: Iterable[Case]) -> Iterator[Case]:
    """The first float64 case of each program, with each seed of the set."""
    first: dict[tuple[str, str], Case] = {}
    for case in cases:
        if (case.dtype, case.expect) == ("float64", "pass"):
            first.setdefault((case.contract, case.implementation), case)
    return (replace(case, seed=seed) for case in first.values() for seed in SEEDS)


def owed_checks(case: Case, contract: Contract) -> frozenset[str]:
    """The checks without which a record of this case is not whole."""
    several, float64 = case.mesh.devices > 1, case.dtype == "float64"
    owed = {
        "census": True,
        "determinism": True,
        "logic": float64,
        "numerics": not float64,
        "exact": contract.exact and case.dtype in contract.exact_dtypes,
        "trajectory": contract.recipe.steps > 1,
        "replicas": several,
        "layout": several,
        "communication": several,
        "memory": contract.held,
        "relations": bool(contract.relations) and float64 and case.seed == 0,
    }
    return frozenset(name for name, is_owed in owed.items() if is_owed)


def may_decline(case: Case) -> frozenset[str]:
    """The checks that a case which must pass need not hold: what it sends, where its program does not say that.

    On other devices than emulated ones a program may not be traced as a whole.
    """
    entry = suites()[case.suite].implementation(case.implementation)
    return frozenset(() if entry.declares and case.devices == DEVICES[0] else ("communication",))


def published() -> str:
    """The list as it is published, in JSON: the seeds, the sets of checks, and per case what it must be and its set."""
    cases = must_pass(Selection(profile=PROFILE))
    contracts = {contract.name: contract for suite in suites().values() for contract in suite.contracts}
    owed = [sorted(owed_checks(case, contracts[case.contract])) if case.expect == "pass" else [] for case in cases]
    sets = [list(checks) for checks in sorted(set(map(tuple, owed)))]
    rows = [json.dumps([case.id, case.expect, sets.index(checks)]) for case, checks in zip(cases, owed, strict=True)]
    silent = {case.implementation for case in cases if case.expect == "pass" and may_decline(case)}
    head = f'"seeds": {json.dumps(list(SEEDS))},\n"may_decline_communication": {json.dumps(sorted(silent))},\n'
    head += f'"checks": {json.dumps(sets)},\n"cases": [\n'
    return "{" + head + ",\n".join(rows) + "\n]}\n"


def main(arguments: Sequence[str]) -> None:
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LIST).write_text(published())


if __name__ == "__main__":
    main(sys.argv[1:])
