"""docs/contracts.md is what its command writes of the contracts as they are.

What references observe is taken from the page here; `tests/workers/test_contract_page.py` runs some of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from conformance.cases.suite import suites
from conformance.cli.contract_page import ALWAYS, Section, besides, folded, lacks, page
from conformance.cli.interface import Interface
from tests.people.contract_page_text import PAGE, contracts, read, unfolded

COMMAND = "python -m conformance.cli.contract_page docs/contracts.md"


def test_the_page_is_what_the_command_writes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    missing = [contract.name for contract in contracts() if f"* **`{contract.name}`**" not in text]
    assert missing == [], f"There are contracts that the page does not have: {COMMAND}"
    assert page(read(text).values()) == text, f"The contracts have changed: {COMMAND}"
    assert COMMAND in text


def test_every_link_leads_to_a_heading() -> None:
    text = PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#(.*?)\)", text)
    assert len(links) >= len(contracts())
    assert set(links) <= anchors


def test_layers_that_are_alike_are_folded() -> None:
    shapes: Mapping[str, tuple[int, ...]] = {
        "layers.0.up": (2,), "layers.0.norm": (3,), "layers.1.up": (2,), "layers.3.up": (2,), "layers.2.norm": (4,),
    }  # fmt: skip
    assert folded(shapes) == [("layers.0-1,3.up", (2,)), ("layers.0.norm", (3,)), ("layers.2.norm", (4,))]
    assert unfolded("  layers.0-1,3.up  2\n") == dict.fromkeys(("layers.0.up", "layers.1.up", "layers.3.up"), (2,))


def test_what_is_observed_beyond_the_usual_is_told() -> None:
    contract = suites()["tensor"].contract("tensor/mlp")
    observed = {**dict.fromkeys(ALWAYS, ()), "gradients/feedforward.up.bias": (9,), "outputs/y": (24, 7, 12)}
    odd = Interface(contract=contract, observed=observed, collected={"optimizer/count": (), "optimizer/extra": (2,)})
    assert set(besides(odd)) == {"gradients/feedforward.up.bias", "outputs/y", "optimizer/extra"}
    missing = {"gradients/feedforward.up.weight", "parameters/feedforward.up.weight", "parameters/feedforward.up.bias"}
    assert missing <= set(lacks(odd))
    assert not {"gradients/feedforward.up.bias", "optimizer/count", *ALWAYS} & set(lacks(odd))
    assert Section(interfaces=(odd, odd)).title == "tensor/mlp and 1 more"
