"""docs/contracts.md read back: what it says of references that their contracts do not say."""

from __future__ import annotations

import re
from pathlib import Path

from conformance.cases.suite import suites
from conformance.cli.contract_page import usual
from conformance.cli.interface import Interface, Shapes
from conformance.contract.contract import Contract

PAGE = Path(__file__).parents[2] / "docs" / "contracts.md"
OWED = "A step owes besides"
NAMED = re.compile("`(.*?)`")


def contracts() -> list[Contract]:
    return [contract for suite in suites().values() for contract in suite.contracts]


def read(text: str) -> dict[str, Interface]:
    """Contract -> its interface, as far as the page says something that the contract does not."""
    told, owed = {}, {}
    for title, section in re.findall(r"^### (\S+/.*)\n((?:(?!^##).*\n?)*)", text, re.MULTILINE):
        table = re.search(rf"^{OWED}\n((?:  .*\n)*)", section, re.MULTILINE)
        earlier = re.search(rf"{OWED}: as in \[(.*)\]", section)
        owed[title] = unfolded(table[1]) if table else owed[earlier[1]] if earlier else {}
        common = section.partition("All of these:")[2]
        for name, own in re.findall(r"^\* \*\*`(.*)`\*\*.*\n((?:  \* .*\n)*)", section, re.MULTILINE):
            state = re.search(r"State: (.*)\.", own) or re.search(r"State: (.*)\.", common)
            absent = re.search(r"Not owed: (.*)\.", own) or re.search(r"Not owed: (.*)\.", common)
            assert state is not None, name
            told[name] = state[1], owed[title], absent[1] if absent else ""
    return {contract.name: _interface(contract, *told[contract.name]) for contract in contracts()}


def unfolded(table: str) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for name, shape in (line.split(maxsplit=1) for line in table.splitlines()):
        layers = re.search(r"(?<=\.)\d+(?:[-,]\d+)*(?=\.|$)", name)
        for number in _numbers(layers[0]) if layers else [""]:
            of_layer = f"{name[: layers.start()]}{number}{name[layers.end() :]}" if layers else name
            shapes[of_layer] = tuple(int(size) for size in shape.split(" x ")) if shape != "a number" else ()
    return shapes


def _numbers(ranges: str) -> list[str]:
    ends = (part.partition("-") for part in ranges.split(","))
    return [str(n) for low, _, high in ends for n in range(int(low), int(high or low) + 1)]


def _interface(contract: Contract, state: str, owed: Shapes, absent: str) -> Interface:
    kept = {f"optimizer/{slot}/{name}": x for slot in NAMED.findall(state) for name, x in contract.shapes.items()}
    shapes = usual(Interface(contract=contract, observed={}, collected=kept))
    collected = {name: shape for name, shape in shapes.items() if name not in NAMED.findall(absent)}
    return Interface(contract=contract, observed=owed, collected=collected)
