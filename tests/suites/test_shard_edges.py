"""Every language model sees the first and the last id of every vocabulary shard, in every step, as input and as label.

Vocabulary shards are those of the tensor axes on which its contract stands, as the tensor suite stores an embedding.
"""

from __future__ import annotations

import numpy as np
import pytest

from conformance.cases.suite import PROFILES, Suite, suites
from conformance.contract.contract import Arrays, Contract
from conformance.contract.mesh import Mesh
from suites.tensor.layout import positions

MODELS = [
    (suite, contract)
    for suite in suites().values()
    for contract in suite.contracts
    if contract.model.kind == "language_model"
]


@pytest.mark.parametrize(("suite", "contract"), MODELS, ids=[contract.name for _, contract in MODELS])
def test_ids_at_the_edges_of_shards(suite: Suite, contract: Contract):
    wanted = set().union(*(_edges(contract.model.vocabulary, size) for size in _tensor_sizes(suite, contract.name)))
    for batch in contract.batches(0, contract.recipe.steps):
        for ids in _inputs_and_labels(batch):
            assert wanted <= set(ids.tolist())


def _tensor_sizes(suite: Suite, contract: str) -> set[int]:
    standing = [case.mesh for profile in PROFILES for case in suite.cases(profile) if case.contract == contract]
    faulty = [Mesh.parse(mesh) for fault in suite.faults if fault.contract == contract for mesh in fault.meshes]
    return {mesh.size("tensor") for mesh in standing + faulty}


def _edges(vocabulary: int, ranks: int) -> set[int]:
    shards = positions([(vocabulary, 1)], ranks).reshape(ranks, -1)
    return {edge for shard in shards if (shard >= 0).any() for edge in (shard[0], shard.max())}


def _inputs_and_labels(batch: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Ids of real tokens, and those that valid ones shall predict."""
    labels = batch.get("targets", np.roll(batch["tokens"], -1, axis=1))
    return batch["tokens"][batch.get("attention_mask", np.ones_like(batch["mask"])) > 0], labels[batch["mask"] > 0]
