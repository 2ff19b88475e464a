"""`shardproof explain CONTRACT`: what an implementation is given and what it owes, with shapes and dtypes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from textwrap import wrap
from typing import TYPE_CHECKING

from conformance.cases.suite import suites
from conformance.cases.usage import UsageError
from conformance.contract.contract import Contract
from conformance.relations import RELATIONS

if TYPE_CHECKING:
    from conformance.workers.pool import Workers

TIMEOUT_SECONDS = 600.0
WIDTH, COLUMN = 110, 46
STATE = ("updates/", "optimizer/")  # of what `collect` gives, as opposed to what a step observes
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Interface:
    """A contract as its implementations see it: `observed` in a step, `collected` after it; names with shapes."""

    contract: Contract
    observed: Shapes
    collected: Shapes


def interface(contract: Contract) -> Interface:
    """What is owed is what the reference itself has in its first step, run here in a worker."""
    return next(interfaces([contract]))


def interfaces(contracts: Iterable[Contract]) -> Iterator[Interface]:
    """The same of several contracts, one after the other in one worker."""
    from conformance.workers.pool import Workers

    with Workers() as workers:
        yield from (_of_reference(contract, workers) for contract in contracts)


def _of_reference(contract: Contract, workers: Workers) -> Interface:
    from conformance.workers.jobs import ReferenceShapesJob

    framework = next((name for name in contract.references if find_spec(name)), None)
    if framework is None:
        raise UsageError(f"The reference of {contract.name} needs {' or '.join(contract.references)}: install one.")
    outcome = workers.run(ReferenceShapesJob(contract=contract.name, framework=framework), TIMEOUT_SECONDS)
    if outcome.failure:
        raise UsageError(f"The reference of {contract.name} does not run: {outcome.reason}")
    shapes = outcome.shapes
    return Interface(
        contract=contract,
        observed={name: shape for name, shape in shapes.items() if not name.startswith(STATE)},
        collected={
            name.replace("updates/", "parameters/"): shape for name, shape in shapes.items() if name.startswith(STATE)
        },
    )


def lines(interface: Interface) -> Iterator[str]:
    """The interface, line by line."""
    contract = interface.contract
    yield from (contract.name, *wrap(f"{contract.summary}.", WIDTH), "")
    yield "Batch: all rows along dim 0"
    for key, value in contract.example.items():
        yield from _row(key, f"{value.dtype} {spoken(value.shape)}", _meaning(contract, key))
    yield from ("", "Parameters")
    yield from (line for name, shape in contract.shapes.items() for line in _row(name, spoken(shape)))
    yield from ("", "A step observes")
    yield from (line for name, shape in interface.observed.items() for line in _row(name, spoken(shape)))
    yield from ("", "`collect` gives")
    yield from (line for name, shape in interface.collected.items() for line in _row(name, spoken(shape)))
    yield from ("", "Recipe")
    yield from (line for name, value in asdict(contract.recipe).items() for line in _row(name, str(value)))
    yield from ("", "Loss")
    yield from (line for term, words in contract.semantics.items() for line in _row(term, words))
    yield from ("", "Relations")
    yield from (line for name in contract.relations for line in _row(name, RELATIONS[name].relation))
    yield from ("", "Implementations")
    entries = suites()[contract.suite].implementations
    yield from (line for entry in entries if contract.name in entry.classes for line in _row(entry.name, entry.summary))


def plain(interface: Interface) -> dict[str, object]:
    """The same for --json."""
    contract = interface.contract
    batch = {
        key: {"dtype": str(value.dtype), "shape": value.shape, "meaning": _meaning(contract, key)}
        for key, value in contract.example.items()
    }
    return {
        "contract": contract.name,
        "summary": contract.summary,
        "batch": batch,
        "parameters": dict(contract.shapes),
        "observed": dict(interface.observed),
        "collected": dict(interface.collected),
        "recipe": asdict(contract.recipe),
        "semantics": dict(contract.semantics),
        "relations": {name: RELATIONS[name].relation for name in contract.relations},
    }


def _meaning(contract: Contract, key: str) -> str:
    return contract.keys.get(key) or contract.keys.get(key.partition(".")[0], "")


def spoken(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"


def _row(name: str, value: str, meaning: str = "") -> list[str]:
    first, *more = wrap(f"{value:<18} {meaning}".rstrip() if meaning else value, WIDTH - COLUMN) or [""]
    gap = " " if len(name) < COLUMN - 3 else "  "
    return [f"  {name:<{COLUMN - 3}}{gap}{first}", *(" " * COLUMN + line for line in more)]
