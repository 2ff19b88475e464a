"""Suites: what is claimed in one parallelism, who implements it, and the standing cases that follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from itertools import product

from conformance.cases.case import DTYPES, Case, Verdict
from conformance.cases.fault import Fault
from conformance.cases.importing import shadowing, take_ours
from conformance.cases.plan import ScalePlan
from conformance.cases.plannable import ModelFamily
from conformance.cases.raised import said
from conformance.cases.usage import UsageError, choose
from conformance.cases.variation import Variations, origin_of, variation
from conformance.contract.contract import Contract
from conformance.contract.mesh import Mesh

PROFILES = ("smoke", "core", "full", "qualification")


@dataclass(frozen=True, kw_only=True)
class ImplementationEntry:
    """A registered implementation: its name, framework, and for each contract it honours the 'module:Class'.

    declares  whether it says what it communicates; where it does not, the check of that declines
    """

    name: str
    framework: str
    summary: str
    classes: Mapping[str, str]
    declares: bool = True


@dataclass(frozen=True, kw_only=True)
class MatrixRow:
    """A row of the standing matrix: every combination of its columns is a case in each of its profiles."""

    contracts: tuple[str, ...]
    implementations: tuple[str, ...]
    meshes: tuple[str, ...]
    dtypes: tuple[str, ...] = ("float64",)
    seeds: tuple[int, ...] = (0,)
    profiles: tuple[str, ...] = ("core", "full", "qualification")
    expect: Verdict = "pass"

    def cases(self) -> Iterator[Case]:
        columns = product(self.contracts, self.implementations, self.meshes, self.dtypes, self.seeds)
        for contract, implementation, mesh, dtype, seed in columns:
            yield Case(
                contract=contract,
                implementation=implementation,
                mesh=Mesh.parse(mesh),
                dtype=choose("dtype", dtype, DTYPES),
                seed=seed,
                expect=self.expect,
            )


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One parallelism: its contracts, implementations, standing matrix and faults.

    mutated         the cases whose collectives are mutated, one by one, to measure the power of the suite
    not_applicable  known mechanisms that this suite cannot have -> why
    plans           models of production size, to be compiled and never run
    variations      what of its contracts may be drawn at random; None: nothing
    families        models of any size of which `shardproof plan` makes plans
    """

    name: str
    summary: str
    contracts: tuple[Contract, ...]
    implementations: tuple[ImplementationEntry, ...]
    matrix: tuple[MatrixRow, ...]
    faults: tuple[Fault, ...] = ()
    mutated: tuple[MatrixRow, ...] = ()
    not_applicable: Mapping[str, str] = field(default_factory=dict)
    plans: tuple[ScalePlan, ...] = ()
    variations: Variations | None = None
    families: tuple[ModelFamily, ...] = ()

    def contract(self, name: str) -> Contract:
        """A contract of the table, or a variation of one."""
        origin = origin_of(name)
        contract = {contract.name: contract for contract in self.contracts}[origin]
        return contract if origin == name else variation(contract, self.variations, name)

    def implementation(self, name: str) -> ImplementationEntry:
        return {entry.name: entry for entry in self.implementations}[name]

    def cases(self, profile: str) -> list[Case]:
        """The standing cases of a profile, each once, in the order of the matrix."""
        if profile not in self._standing:
            rows = (row for row in self.matrix if profile in row.profiles)
            self._standing[profile] = tuple({case.id: case for row in rows for case in row.cases()}.values())
        return list(self._standing[profile])

    @cached_property
    def _standing(self) -> dict[str, tuple[Case, ...]]:
        """Those of the profiles that were asked for."""
        return {}


@cache
def suites() -> Mapping[str, Suite]:
    """Every installed suite by name, from the entry points `shardproof.suites`. Raises UsageError if one is absent."""
    entries = sorted(entry_points(group="shardproof.suites"), key=lambda entry: entry.name)
    return {entry.name: _loaded(entry) for entry in entries}


def _loaded(entry: EntryPoint) -> Suite:
    try:
        take_ours()
        suite: Suite = entry.load()
    except (ImportError, AttributeError) as failure:
        raise UsageError(f"The suite '{entry.name}' does not import: {said(failure)}.{shadowing(failure)}") from failure
    return suite
