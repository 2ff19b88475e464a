"""docs/contracts.md says of references what a run of them says."""

from __future__ import annotations

from conformance.cli.contract_page import besides, folded, lacks, slots
from conformance.cli.interface import interfaces
from tests.people.contract_page_text import PAGE, contracts, read

RUN = ("tensor/mlp", "moe/every_layer", "data/policy_master", "pipeline/perceptron", "data/contrastive")


def test_the_page_says_what_references_observe() -> None:
    on_page = read(PAGE.read_text(encoding="utf-8"))
    chosen = [contract for contract in contracts() if contract.name in RUN]
    for interface in interfaces(chosen):
        told = on_page[interface.contract.name]
        assert folded(besides(interface)) == folded(besides(told)), interface.contract.name
        assert slots(interface) == slots(told)
        assert lacks(interface) == lacks(told) == [], interface.contract.name
