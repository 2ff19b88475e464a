"""Reproduce: from a case back to the one command that runs it again, from any folder."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import replace

from conformance.cases.case import Case
from conformance.records.results import CaseResult


def reproduce(case: Case, checks: Iterable[str] = ()) -> str:
    """The one command that runs just this case again."""
    case = anywhere(case)
    if case.fault or case.mutation:
        return shlex.join(["shardproof", "power", case.suite, "--implementation", case.implementation])
    words = ["shardproof", "run", "--contract", case.contract, "--implementation", case.implementation]
    words += ["--mesh", str(case.mesh), "--dtype", case.dtype, "--seed", str(case.seed)]
    words += ["--devices", case.devices] if case.devices != "emulated" else []
    for check in checks:
        words += ["--check", check]
    return shlex.join(words)


def reproduce_after(earlier: Iterable[str], case: Case, checks: Iterable[str] = ()) -> str:
    """The one command that runs some cases, given by their ids, and then this one, all in the same worker."""
    words = ["shardproof", "run"]
    for case_id in (*earlier, anywhere(case).id):
        words += ["--case", case_id]
    for check in checks:
        words += ["--check", check]
    return shlex.join(words)


def reproduction(result: CaseResult, checks: Iterable[str] = ()) -> str:
    """The one command that shows a result again: the case alone, unless it depends on others before it."""
    return reproduce_after(result.after, result.case, checks) if result.after else reproduce(result.case, checks)


def anywhere(case: Case) -> Case:
    """The case with an implementation that is a file named so that every folder finds it."""
    file, separator, name = case.implementation.rpartition(".py:")
    if not separator:
        return case
    return replace(case, implementation=f"{os.path.abspath(f'{file}.py')}:{name}")
