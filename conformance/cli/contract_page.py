"""docs/contracts.md: all contracts, with what an implementation is given and what it owes.

    python -m conformance.cli.contract_page docs/contracts.md

What all contracts have in common is told once, at the top; contracts with one interface are one section.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from pathlib import Path
from textwrap import wrap
from typing import Any

from conformance.cases.suite import suites
from conformance.cli.interface import Interface, Shapes, interfaces, spoken
from conformance.contract.contract import Contract, Recipe
from conformance.contract.placements import written
from conformance.relations import RELATIONS

ALWAYS = ("loss", "metrics/tokens", "metrics/grad_norm")  # observed in every step, numbers all
NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")  # of a layer in a name
TOP = """# Contracts

What an implementation is given and what it owes, contract by contract. This page is written by
`python -m conformance.cli.contract_page docs/contracts.md`; `shardproof explain CONTRACT` prints one contract in full.
[your-implementation.md](your-implementation.md) says how an implementation is written,
[judgement.md](judgement.md) how it is judged.

## All contracts
{contents}
## What holds for all

* A batch is one mapping of name to array; all arrays have their rows along dim 0. Shapes are those of the whole batch.
* Parameters are listed in the order of the forward pass. `layers.0-3.x` stands for `layers.0.x` to `layers.3.x`.
* Every step owes `loss`, `metrics/tokens`, `metrics/grad_norm` and, in the shape of each parameter, its
  `gradients/<parameter>`. What it owes besides, and what it does not owe, is listed.
* `collect` gives `parameters/<parameter>`, for each slot that the state keeps `optimizer/<slot>/<parameter>`, and
  `optimizer/count`.
* A recipe is told by what it has other than this:
{recipe}.
"""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Contracts of one suite that have one interface."""

    interfaces: tuple[Interface, ...]

    @property
    def title(self) -> str:
        more = len(self.interfaces) - 1
        return self.interfaces[0].contract.name + (f" and {more} more" if more else "")

    @property
    def link(self) -> str:
        """The anchor that Markdown makes of the title."""
        return "#" + re.sub(r"[^\w\- ]", "", self.title.lower()).replace(" ", "-")


def page(told: Iterable[Interface]) -> str:
    """The whole page. `told` are the interfaces of all contracts, suite by suite."""
    sections = {
        suite: _sections(of_suite) for suite, of_suite in groupby(told, lambda interface: interface.contract.suite)
    }
    contracts = [interface.contract for parts in sections.values() for part in parts for interface in part.interfaces]
    terms = _defined_once((term, words) for contract in contracts for term, words in contract.semantics.items())
    asked = {name for contract in contracts for name in contract.relations}
    recipe = wrap(", ".join(_settings(Recipe(), {})), 118, initial_indent="  ", subsequent_indent="  ")
    lines = [TOP.format(contents="\n".join(_contents(sections)) + "\n", recipe="\n".join(recipe))]
    lines += _glossary("Keys of a batch", _keys(contracts))
    lines += _glossary("Terms of a loss", terms)
    lines += _glossary("Relations", {name: rule.relation for name, rule in RELATIONS.items() if name in asked})
    met: dict[tuple[str, ...], Section] = {}
    for suite, parts in sections.items():
        lines += [f"## {suite}", "", f"{suites()[suite].summary}.", ""]
        for part in parts:
            lines += [f"### {part.title}", "", *_contracts(part, terms), "", *_interface(part, met)]
    return "\n".join(lines).rstrip() + "\n"


def _sections(told: Iterable[Interface]) -> list[Section]:
    alike: dict[tuple[tuple[str, ...], ...], list[Interface]] = {}
    for interface in told:
        alike.setdefault(tuple(_tables(interface).values()), []).append(interface)
    return [Section(interfaces=tuple(interfaces)) for interfaces in alike.values()]


def _contents(sections: Mapping[str, Sequence[Section]]) -> Iterator[str]:
    """Every contract, linked to its section."""
    for suite, parts in sections.items():
        names = (
            f"[{interface.contract.name.partition('/')[2]}]({part.link})"
            for part in parts
            for interface in part.interfaces
        )
        yield from ("", f"**[{suite}](#{suite})**: {', '.join(names)}")


def _glossary(title: str, words: Mapping[str, str]) -> list[str]:
    rows = [f"| `{word}` | {meaning} |" for word, meaning in words.items()]
    return [f"### {title}", "", "| | |", "| --- | --- |", *rows, ""] if rows else []


def _keys(contracts: Iterable[Contract]) -> dict[str, str]:
    """What each key that some batch has holds; `routing.<layer>` is told under `routing`."""
    named: dict[str, str] = {}
    for contract in contracts:
        for key in contract.example:
            named |= {name: contract.keys[name] for name in (key, key.partition(".")[0]) if name in contract.keys}
    return named


def _defined_once(defined: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The terms that mean the same wherever they stand; the others are told where they stand."""
    meanings: dict[str, set[str]] = {}
    for term, words in defined:
        meanings.setdefault(term, set()).add(words)
    return {term: next(iter(words)) for term, words in meanings.items() if len(words) == 1}


def _contracts(section: Section, terms: Mapping[str, str]) -> Iterator[str]:
    """What must hold, contract by contract; what is the same for several of a section, once for all."""
    told = [list(_sentences(interface, terms)) for interface in section.interfaces]
    common = [sentence for sentence in told[0] if len(told) > 1 and all(sentence in sentences for sentences in told)]
    for interface, sentences in zip(section.interfaces, told, strict=True):
        yield f"* **`{interface.contract.name}`**: {interface.contract.summary}."
        yield from (f"  * {sentence}" for sentence in sentences if sentence not in common)
    yield from ("", "All of these:", "", *(f"* {sentence}" for sentence in common)) if common else ()


def _sentences(interface: Interface, terms: Mapping[str, str]) -> Iterator[str]:
    contract = interface.contract
    yield f"Recipe: {', '.join(_settings(contract.recipe, asdict(Recipe())))}."
    yield f"State: {', '.join(f'`{slot}`' for slot in slots(interface)) or 'no slots'}."
    yield f"Loss: {', '.join(f'`{term}`' for term in contract.semantics)}."
    yield from (f"`{term}`: {words}." for term, words in contract.semantics.items() if term not in terms)
    yield f"Relations: {', '.join(contract.relations) or 'none'}."
    if lacking := [f"`{name}`" for name in lacks(interface)]:
        yield f"Not owed: {', '.join(lacking)}."
    yield from _further(contract)


def _settings(recipe: Recipe, default: Mapping[str, Any]) -> list[str]:
    """The optimizer, and what is set otherwise than usual; where nothing is usual, whatever is set."""
    fields = asdict(recipe)
    settings = {**fields, **{f"precision of {role}": dtype for role, dtype in fields.pop("precision").items()}}
    settings.pop("precision")
    default = {**default, **{f"precision of {role}": dtype for role, dtype in default.get("precision", {}).items()}}
    optimizer = settings.pop("optimizer")
    changed = ((name, value) for name, value in settings.items() if (default.get(name) or ()) != (value or ()))
    return [optimizer, *(f"{name} {value}" for name, value in changed)]


def _further(contract: Contract) -> Iterator[str]:
    if contract.exact:
        yield "Sums are exact in whatever order: the tolerance is zero."
    for name, placements in contract.layouts.items():
        yield f"`{name}` lies so: {', '.join(f'{axis} {place}' for axis, place in written(placements).items())}."
    if contract.replayed:
        yield f"In narrower dtypes decisions are given: {_pairs(contract.replayed)}."
    if contract.still:
        yield f"Always zero: {', '.join(f'`{name}`' for name in contract.still)}."
    if contract.replicated_axes:
        yield f"Axes that need not divide anything: {', '.join(contract.replicated_axes)}."
    if not contract.held:
        yield "The precision of the recipe is not held to the program."


def _pairs(replayed: Mapping[str, str]) -> str:
    return ", ".join(f"`{name}` as `{key}`" for name, key in replayed.items())


def _interface(section: Section, met: dict[tuple[str, ...], Section]) -> Iterator[str]:
    """The tables of a section; of those that stand already, where."""
    tables = _tables(section.interfaces[0])
    before = {title: met.setdefault((title, *rows), section) for title, rows in tables.items()}
    known = {title: f"[{earlier.title}]({earlier.link})" for title, earlier in before.items() if earlier is not section}
    for link in dict.fromkeys(known.values()):
        yield f"* {'; '.join(title for title in known if known[title] == link)}: as in {link}."
    yield from [""] if known else []
    if len(known) < len(tables):
        lines = (line for title, rows in tables.items() if title not in known for line in (title, *rows))
        yield from ("```text", *lines, "```", "")


def _tables(interface: Interface) -> dict[str, tuple[str, ...]]:
    """Title -> rows."""
    contract = interface.contract
    tables = {
        "Batch": [(key, f"{value.dtype} {spoken(value.shape)}") for key, value in contract.example.items()],
        "Parameters": [(name, spoken(shape)) for name, shape in folded(contract.shapes)],
        "A step owes besides": [(name, spoken(shape)) for name, shape in folded(besides(interface))],
    }
    return {title: tuple(f"  {name:<48} {value}" for name, value in rows) for title, rows in tables.items()}


def usual(interface: Interface) -> Shapes:
    """What a contract with these parameters and slots owes like any other."""
    shapes = interface.contract.shapes
    state = {f"optimizer/{slot}/{name}": shape for slot in slots(interface) for name, shape in shapes.items()}
    return {
        **dict.fromkeys(ALWAYS, ()),
        **{f"{kind}/{name}": shape for kind in ("gradients", "parameters") for name, shape in shapes.items()},
        **state,
        "optimizer/count": (),
    }


def besides(interface: Interface) -> Shapes:
    """What a contract owes beyond that: observations, and what is collected under a name of its own."""
    others, owed = usual(interface), {**interface.observed, **interface.collected}
    return {name: shape for name, shape in owed.items() if others.get(name) != shape}


def lacks(interface: Interface) -> list[str]:
    """What others owe and this contract does not."""
    return [name for name in usual(interface) if name not in interface.observed and name not in interface.collected]


def slots(interface: Interface) -> list[str]:
    """What the optimizer keeps of every parameter."""
    return list(dict.fromkeys(name.split("/")[1] for name in interface.collected if name.count("/") > 1))


def folded(shapes: Shapes) -> list[tuple[str, tuple[int, ...]]]:
    """Names that differ by the number of a layer, and are alike in shape, as one: `layers.0-3.x`."""
    numbers: dict[tuple[str, str, tuple[int, ...]], list[int]] = {}
    for name, shape in shapes.items():
        before, number, after = _parted(name)
        numbers.setdefault((before, after, shape), []).extend([number] if number is not None else [])
    return [(before + _ranges(layers) + after, shape) for (before, after, shape), layers in numbers.items()]


def _parted(name: str) -> tuple[str, int | None, str]:
    match = NUMBER.search(name)
    return (name[: match.start()], int(match.group()), name[match.end() :]) if match else (name, None, "")


def _ranges(numbers: Sequence[int]) -> str:
    """`0-3,5` for 0, 1, 2, 3 and 5."""
    breaks = [at for at, (low, high) in enumerate(pairwise(numbers), 1) if high != low + 1]
    runs = [numbers[start:stop] for start, stop in zip([0, *breaks], [*breaks, None], strict=True)]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs if run)


def main(path: str) -> int:
    """Run the reference of every contract for one step, and write the page."""
    contracts = [contract for suite in suites().values() for contract in suite.contracts]
    Path(path).write_text(page(interfaces(contracts)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
