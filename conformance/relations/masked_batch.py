"""Masked batch: a batch without a valid token teaches nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import ExtraRun, Observations
from conformance.relations.oracle import refusal
from conformance.relations.relation import Finding, Relation
from conformance.relations.runs import Runs

ZERO = ("loss", "metrics/grad_norm", "metrics/tokens")
GRADIENTS = ("gradients/", "input_gradients/")
LABEL = "no valid token"


class MaskedBatch(Relation):
    """Nothing divided by nothing: a rank, a slice or a whole batch without valid tokens must not spoil a run."""

    name = "masked batch"
    relation = (
        "With a mask of zeros the loss, every gradient (of inputs too), the gradient norm and the number of tokens are "
        "exactly zero on every rank, and parameters and optimizer state stay finite."
    )

    def extra_runs(self, runs: Runs) -> Iterator[ExtraRun]:
        batch = runs.batches[0] | {"mask": np.zeros_like(runs.batches[0]["mask"])}
        yield runs.extra_run(LABEL, lambda: runs.instance.first_step(runs.parameters, batch))

    def judge(self, case_run: CaseRun, extra_runs: Sequence[ExtraRun]) -> Iterator[Finding]:
        for extra_run in extra_runs:
            if extra_run.refused:
                yield extra_run.label, refusal(extra_run)
                continue
            for name in case_run.evidence.steps[0]:
                if name in ZERO or name.startswith((*GRADIENTS, "parameters/", "optimizer/")):
                    yield f"{LABEL}: {name}", _sentence(name, extra_run.observations)


def _sentence(name: str, observations: Observations) -> str:
    if name not in observations:
        return f"'{name}' is missing from a step with {LABEL}."
    values = [block.value for block in observations[name].blocks]
    if not all(np.isfinite(value).all() for value in values):
        return f"With {LABEL}, {name} is not finite."
    largest = max((float(np.abs(value).max(initial=0)) for value in values), default=0.0)
    owed = name in ZERO or name.startswith(GRADIENTS)
    return f"With {LABEL}, {name} is {largest:.3g}, not zero." if owed and largest else ""
