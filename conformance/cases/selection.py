"""Plan: from what somebody asks for to the list of cases, and back from a case to the command that runs it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from conformance.cases.case import DEVICES, DTYPES, Case, Mutation, Verdict
from conformance.cases.expectations import expecting
from conformance.cases.external import framework_of, is_external
from conformance.cases.resolve import resolve
from conformance.cases.suite import PROFILES, ImplementationEntry, Suite, suites
from conformance.cases.usage import UsageError, choose
from conformance.cases.variation import origin_of
from conformance.contract.contract import Contract
from conformance.contract.implementation import FRAMEWORKS
from conformance.contract.mesh import AXIS, ORDERS, Mesh, MeshError, too_large
from conformance.contract.roles import ROLES

DEFAULT_PROFILE = "core"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a command asks for; None is 'whatever the standing matrix has'."""

    suites: tuple[str, ...] = ()
    profile: str | None = None
    contracts: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()  # ids; they run in this order, one after the other in the same worker
    implementation: str | None = None
    framework: str | None = None
    mesh: str | None = None
    dtype: str | None = None
    seed: int | None = None
    fraction: str | None = None
    devices: str = "emulated"
    expectations: str | None = None  # a file of known failures


def select(wanted: Selection) -> list[Case]:
    """The cases that a selection means, in the order of the matrix, each once; UsageError if it means none.

    Cases and contracts that are named keep the order in which they are named. A mesh, dtype, seed or implementation
    that the standing matrix does not have takes the place of those it has.
    """
    _check_words(wanted)
    if wanted.cases:
        return _named(wanted)
    mesh = _mesh(wanted.mesh) if wanted.mesh is not None else None
    chosen = _suites(wanted)
    cases = _standing(wanted, chosen, mesh)
    cases = _narrowed(wanted, chosen, cases)
    cases = _column(cases, "mesh", mesh)
    cases = _column(cases, "dtype", wanted.dtype)
    cases = _column(cases, "seed", wanted.seed)
    cases = _known([replace(case, devices=wanted.devices) for case in _expected(cases)], wanted)
    cases = _fraction(cases, wanted.fraction)
    if not cases:
        raise UsageError(f"No case matches {_spoken(wanted)}: `shardproof list cases` shows the standing cases.")
    _check_axes(cases)
    _check_devices(cases)
    return cases


def _named(wanted: Selection) -> list[Case]:
    """The cases with the ids that were given."""
    if wanted != Selection(cases=wanted.cases, expectations=wanted.expectations):
        raise UsageError("--case says the whole case: leave out what else selects cases.")
    cases = [parse_case(text) for text in wanted.cases]
    for case in cases:
        if case.fault or case.mutation:
            raise UsageError(f"{case.id} has a bug planted in it: `shardproof power` runs such cases.")
        resolve(case)
    _check_devices(cases)
    return _known(list({case.id: case for case in cases}.values()), wanted)


def _known(cases: list[Case], wanted: Selection) -> list[Case]:
    """The cases with the failures that somebody's own file expects."""
    if wanted.expectations is None or not cases:
        return cases
    return expecting(Path(wanted.expectations), cases, datetime.now(UTC).date())


def framework_for(case: Case) -> str:
    """The framework of a case's implementation."""
    if is_external(case.implementation):
        return framework_of(case.implementation)
    return suites()[case.suite].implementation(case.implementation).framework


_MESH = rf"{AXIS}\d+(?:_{AXIS}\d+)*(?:_(?:{'|'.join(ORDERS[1:])}))?"
_CASE = re.compile(
    rf"(?P<contract>[^\[\]]+)\[(?P<implementation>.+)-(?P<mesh>{_MESH})-(?P<dtype>{'|'.join(DTYPES)})"
    r"(?:-seed(?P<seed>\d+))?(?:-fault:(?P<fault>.+?))?(?:-mutation:(?P<operator>[^@]+)@(?P<site>\d+))?"
    rf"(?:-(?P<devices>{'|'.join(DEVICES[1:])}))?\]"
)


def parse_case(text: str) -> Case:
    """A case from its id, the inverse of `Case.id`."""
    match = _CASE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"'{text}' is no case id: one reads contract[implementation-mesh-dtype], for example "
            "tensor/mlp[jax-shard_map-data2_tensor4-float64]."
        )
    parts = match.groupdict()
    mutation = Mutation(operator=parts["operator"], site=int(parts["site"])) if parts["operator"] else None
    case = Case(
        contract=parts["contract"],
        implementation=parts["implementation"],
        mesh=_read(Mesh.from_slug, parts["mesh"]),
        dtype=choose("dtype", parts["dtype"], DTYPES),
        seed=int(parts["seed"] or 0),
        devices=parts["devices"] or "emulated",
        fault=parts["fault"],
        mutation=mutation,
    )
    return _expected([case])[0]


def _check_words(wanted: Selection) -> None:
    for kind, name, known in (
        ("profile", wanted.profile, PROFILES),
        ("dtype", wanted.dtype, DTYPES),
        ("framework", wanted.framework, FRAMEWORKS),
        ("kind of devices", wanted.devices, DEVICES),
    ):
        if name is not None:
            choose(kind, name, known)
    if wanted.seed is not None and wanted.seed < 0:
        raise UsageError(f"Seed {wanted.seed} is negative: a seed is a whole number of at least 0.")


def _mesh(text: str) -> Mesh:
    return _read(Mesh.parse, text)


def _read(reader: Callable[[str], Mesh], text: str) -> Mesh:
    try:
        return reader(text)
    except MeshError as wrong:
        raise UsageError(str(wrong)) from None


def _suites(wanted: Selection) -> list[Suite]:
    known = suites()
    if not known:
        raise UsageError("No suite is installed: install shardproof itself with `pip install -e .` in its folder.")
    names = [choose("suite", name, tuple(known)) for name in wanted.suites] or list(known)
    if wanted.contracts and not wanted.suites:
        contracts = tuple(contract.name for suite in known.values() for contract in suite.contracts)
        names = [choose("contract", origin_of(name), contracts).partition("/")[0] for name in wanted.contracts]
    return [known[name] for name in dict.fromkeys(names)]


def _standing(wanted: Selection, chosen: list[Suite], mesh: Mesh | None) -> list[Case]:
    """Standing cases of the profile; of all profiles for contracts that are asked for by name."""
    if not wanted.contracts:
        return [case for suite in chosen for case in suite.cases(wanted.profile or DEFAULT_PROFILE)]
    contracts = {contract.name: contract for suite in chosen for contract in suite.contracts}
    profiles = (wanted.profile,) if wanted.profile else PROFILES
    cases: list[Case] = []
    for name in dict.fromkeys(wanted.contracts):
        suite = suites()[contracts[choose("contract", origin_of(name), tuple(contracts))].suite]
        contract = suite.contract(name)
        standing = [case for profile in profiles for case in suite.cases(profile)]
        own = list({case.id: case for case in standing if case.contract == name}.values())
        cases += own or _beyond_the_matrix(contract, mesh)
    return cases


def _beyond_the_matrix(contract: Contract, mesh: Mesh | None) -> list[Case]:
    """A contract with no standing case still runs everywhere that it is asked for, mesh by mesh."""
    if mesh is None:
        return []
    entries = suites()[contract.suite].implementations
    names = [entry.name for entry in entries if origin_of(contract.name) in entry.classes]
    return [Case(contract=contract.name, implementation=name, mesh=mesh, dtype="float64") for name in names]


def _narrowed(wanted: Selection, chosen: list[Suite], cases: list[Case]) -> list[Case]:
    """Cases of the implementation and the framework that were asked for."""
    known = {entry.name: entry for suite in chosen for entry in suite.implementations}
    if wanted.implementation is not None:
        cases = _implemented(wanted, known, cases)
    if wanted.framework is not None:
        cases = [case for case in cases if _framework(case, known) == wanted.framework]
    return cases


def _implemented(wanted: Selection, known: Mapping[str, ImplementationEntry], cases: list[Case]) -> list[Case]:
    name = wanted.implementation or ""
    if is_external(name):
        if not wanted.contracts:
            raise UsageError(f"--implementation {name} needs --contract: say which contract it claims to honour.")
        framework_of(name)  # refuses a file that does not import or a class that lacks a method
        return _column(cases, "implementation", name)
    entry = known[choose("implementation", name, tuple(known))]
    honoured = [case for case in cases if origin_of(case.contract) in entry.classes]
    if cases and not honoured:
        raise UsageError(f"The implementation '{name}' does not claim to honour '{', '.join(wanted.contracts)}'.")
    return _column(honoured, "implementation", name)


def _framework(case: Case, known: Mapping[str, ImplementationEntry]) -> str:
    return (
        framework_of(case.implementation) if is_external(case.implementation) else known[case.implementation].framework
    )


def _column(cases: list[Case], column: str, value: object) -> list[Case]:
    """The cases that have the value in the column; if none has, all of them with the value put there."""
    if value is None:
        return cases
    having = [case for case in cases if getattr(case, column) == value]
    replaced = having or [_with(case, column, value) for case in cases]
    return list({case.id: case for case in replaced}.values())


def _with(case: Case, column: str, value: Any) -> Case:
    return replace(case, **{column: value, "expect": "pass"})


def _expected(cases: list[Case]) -> list[Case]:
    """What the standing matrix expects of each case; `pass` for all that it does not have."""
    known = _standing_expectations()
    return [replace(case, expect=known.get(replace(case, devices="emulated").id, "pass")) for case in cases]


@cache
def _standing_expectations() -> dict[str, Verdict]:
    standing = (case for suite in suites().values() for profile in PROFILES for case in suite.cases(profile))
    return {case.id: case.expect for case in standing}


def _fraction(cases: list[Case], fraction: str | None) -> list[Case]:
    """Every n-th case, starting with the i-th: the n fractions share the cases out evenly."""
    if fraction is None:
        return cases
    match = re.fullmatch(r"(\d+)/(\d+)", fraction)
    part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UsageError(f"Cannot read the fraction '{fraction}': write i/n with i from 1 to n, for example 1/4.")
    return cases[part - 1 :: parts]


def _check_axes(cases: list[Case]) -> None:
    """A registered implementation knows the axes of the suites; somebody's own may call them what it likes."""
    for case in cases:
        if not is_external(case.implementation):
            for axis in case.mesh.axes:
                choose("mesh axis", axis, ROLES)


def _check_devices(cases: list[Case]) -> None:
    for case in cases:
        if case.devices != "real" and (sentence := too_large(case.mesh, framework_for(case))):
            raise UsageError(sentence)


def _spoken(wanted: Selection) -> str:
    asked = {
        "suite": ", ".join(wanted.suites),
        "profile": wanted.profile,
        "contract": ", ".join(wanted.contracts),
        "implementation": wanted.implementation,
        "framework": wanted.framework,
        "mesh": wanted.mesh,
        "dtype": wanted.dtype,
        "seed": wanted.seed,
        "fraction": wanted.fraction,
    }
    return (
        ", ".join(f"{name} {value}" for name, value in asked.items() if value not in (None, ""))
        or "the standing matrix"
    )
