"""The ground on which cases of one implementation are drawn: contracts that can be varied, meshes, dtypes.

Axes and dtypes are those of the standing cases of the implementation; a class of somebody's own takes those of all
implementations of its framework.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from conformance.cases.case import DTYPES, Case, Dtype
from conformance.cases.external import framework_of, is_external
from conformance.cases.suite import PROFILES, Suite, suites
from conformance.cases.usage import UsageError, choose
from conformance.contract.contract import Contract
from conformance.contract.mesh import Mesh

MOST_DEVICES = 8
SIZES = (2, 3, 4, 1)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """One contract that can be varied, and where the implementation runs it.

    values  field -> values to draw from, the plainest first
    """

    implementation: str
    contract: Contract
    values: Mapping[str, tuple[object, ...]]
    meshes: tuple[Mesh, ...]
    dtypes: tuple[Dtype, ...]


def grounds(implementation: str, contracts: Sequence[str] = ()) -> list[Ground]:
    """Those of an implementation, a registered name or `file.py:Class`. Raises UsageError where there is none."""
    known = suites()
    names = [contract.name for suite in known.values() for contract in suite.contracts]
    wanted = [choose("contract", name, names) for name in contracts]
    if is_external(implementation):
        framework_of(implementation)  # refuses a file that does not import
        if not wanted:
            raise UsageError(f"{implementation} needs --contract: say which contract it claims to honour.")
    else:
        entries = [entry.name for suite in known.values() for entry in suite.implementations]
        choose("implementation", implementation, tuple(dict.fromkeys(entries)))
    made = [ground for suite in known.values() for ground in _of_suite(suite, implementation, wanted)]
    if not made:
        raise UsageError(f"No contract that {implementation} honours can be varied{_among(wanted)}.")
    return made


def _among(wanted: Sequence[str]) -> str:
    return f" among {', '.join(wanted)}" if wanted else ""


def _of_suite(suite: Suite, implementation: str, wanted: Sequence[str]) -> Iterator[Ground]:
    if suite.variations is None:
        return
    for contract in suite.contracts:
        cases = _standing(suite, implementation, contract) if not wanted or contract.name in wanted else []
        values = suite.variations.values(contract)
        if cases and values:
            dtypes = tuple(dtype for dtype in DTYPES if any(case.dtype == dtype for case in cases))
            meshes = tuple(meshes_with({case.mesh.axes: None for case in cases}))
            yield Ground(implementation=implementation, contract=contract, values=values, meshes=meshes, dtypes=dtypes)


def _standing(suite: Suite, implementation: str, contract: Contract) -> list[Case]:
    """The cases in which it must pass; of somebody's own class, those in which any class of its framework must."""
    frameworks = {entry.name: entry.framework for entry in suite.implementations}
    theirs = is_external(implementation)
    return [
        case
        for profile in PROFILES
        for case in suite.cases(profile)
        if case.contract == contract.name and case.expect == "pass"
        if (
            frameworks[case.implementation] == framework_of(implementation)
            if theirs
            else case.implementation == implementation
        )
    ]


def meshes_with(axes: Mapping[tuple[str, ...], None]) -> Iterator[Mesh]:
    """All meshes of these axes, of 2 to MOST_DEVICES devices, in canonical order; few devices first."""
    made = [
        Mesh(sizes=tuple(zip(names, sizes, strict=True)))
        for names in axes
        for sizes in product(SIZES, repeat=len(names))
    ]
    yield from sorted((m for m in made if 1 < math.prod(m.shape) <= MOST_DEVICES), key=lambda mesh: mesh.devices)
