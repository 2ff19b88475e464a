"""Batch permutation: the order of the rows changes no sum and no row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import ExtraRun
from conformance.relations.oracle import first_step_holds
from conformance.relations.relation import Finding, Relation
from conformance.relations.runs import Runs

BY_ROWS = ("outputs/", "activations/", "masks/", "input_gradients/", "scores/", "choices/", "routing/")
LABEL = "permuted rows"


class BatchPermutation(Relation):
    """Rows change their shard and their slice, and take everything that belongs to them along."""

    name = "batch permutation"
    relation = (
        "With the rows of the first batch permuted across shards and slices, loss, metrics, gradients and updates are "
        "the oracle's, and everything that has rows is the oracle's with its rows permuted alike."
    )

    def extra_runs(self, runs: Runs) -> Iterator[ExtraRun]:
        batch = runs.batches[0]
        rows = len(batch["mask"])
        order = permutation(rows)
        moved = {key: value[order] if value.shape[:1] == (rows,) else value for key, value in batch.items()}
        yield runs.extra_run(LABEL, lambda: runs.instance.first_step(runs.parameters, moved))

    def judge(self, case_run: CaseRun, extra_runs: Sequence[ExtraRun]) -> Iterator[Finding]:
        rows = case_run.contract.batch_shapes["mask"][0]
        order = permutation(rows)

        def arranged(name: str, value: np.ndarray) -> np.ndarray:
            return value[order] if name.startswith(BY_ROWS) and value.shape[:1] == (rows,) else value

        for extra_run in extra_runs:
            yield from first_step_holds(case_run, extra_run, arranged)


def permutation(rows: int) -> np.ndarray:
    """A fixed order that leaves no row in its place and, of three or more, is not its own inverse.

    An involution would hide a gather where a scatter is due.
    """
    places = np.arange(rows)
    if rows < 3:
        return places[::-1]
    for seed in count():
        order = np.random.default_rng(seed).permutation(rows)
        if (order != places).all() and (order[order] != places).any():
            return order
    raise AssertionError("some order is found")
