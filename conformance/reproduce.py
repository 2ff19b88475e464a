"""Reproduce: from a case back to the one command that runs it again, from any folder."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import replace

from conformance.cases import Case


def reproduce(case: Case, checks: Iterable[str] = ()) -> str:
    """The one command that runs just this case again."""
    case = _anywhere(case)
    if case.fault or case.mutation:
        return shlex.join(["shardproof", "power", case.suite, "--implementation", case.implementation])
    words = ["shardproof", "run", "--contract", case.contract, "--implementation", case.implementation]
    words += ["--mesh", str(case.mesh), "--dtype", case.dtype, "--seed", str(case.seed)]
    words += ["--devices", case.devices] if case.devices != "emulated" else []
    for check in checks:
        words += ["--check", check]
    return shlex.join(words)


def reproduce_after(earlier: Iterable[Case], case: Case, checks: Iterable[str] = ()) -> str:
    """The one command that runs some cases and then this one, all in the same worker."""
    words = ["shardproof", "run"]
    for one in (*earlier, case):
        words += ["--case", _anywhere(one).id]
    for check in checks:
        words += ["--check", check]
    return shlex.join(words)


def _anywhere(case: Case) -> Case:
    """The case with an implementation that is a file named so that every folder finds it."""
    file, separator, name = case.implementation.rpartition(".py:")
    if not separator:
        return case
    return replace(case, implementation=f"{os.path.abspath(f'{file}.py')}:{name}")
