"""The reference of every small model is alive: no gradient is zero everywhere but those that the contract names."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conformance.cases.suite import suites
from conformance.contract.contract import Contract
from conformance.workers.altered import altered
from conformance.workers.lookup import load

MOST_PARAMETERS = 100_000  # of a contract that is run here; larger ones are seen in their cases

SMALL = [
    contract
    for suite in suites().values()
    for contract in suite.contracts
    if sum(map(math.prod, contract.shapes.values())) <= MOST_PARAMETERS
]
# What is dead is so by its model and by what the contract says: recipes alone do not tell contracts apart here.
CONTRACTS = list({(repr(contract.model), contract.still): contract for contract in SMALL}.values())


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_a_reference_is_alive(contract: Contract) -> None:
    trainer = load(contract.references["torch"])(contract, "float64")
    parameters, batches = contract.parameters(0), contract.batches(0, contract.recipe.steps)
    state, dead, loss = trainer.place(parameters), None, None
    for batch in batches:
        state, seen = trainer.step(state, batch)
        loss = np.asarray(seen["loss"]) if loss is None else loss
        zero = {name for name in seen if name.startswith("gradients/") and not np.asarray(seen[name]).any()}
        dead = zero if dead is None else dead & zero
        if not dead:
            break
    moved = any(
        (np.asarray(trainer.step(trainer.place(parameters), other)[1]["loss"]) != loss).any()
        for _, other in altered(batches[0])
    )
    assert (dead or set()) | (set() if moved else {"loss"}) == set(contract.still)
