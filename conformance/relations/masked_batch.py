"""Masked batch: a batch without a valid token teaches nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from conformance.evidence.comparison import Exhibit
from conformance.evidence.evidence import Observations, Trial
from conformance.relations.law import Finding, Law
from conformance.relations.oracle import refusal
from conformance.relations.runs import Runs

ZERO = ("loss", "metrics/grad_norm", "metrics/tokens")
GRADIENTS = ("gradients/", "input_gradients/")
LABEL = "no valid token"


class MaskedBatch(Law):
    """Nothing divided by nothing: a rank, a slice or a whole batch without valid tokens must not spoil a run."""

    name = "masked batch"
    law = (
        "With a mask of zeros the loss, every gradient (of inputs too), the gradient norm and the number of tokens are "
        "exactly zero on every rank, and parameters and optimizer state stay finite."
    )

    def trials(self, runs: Runs) -> Iterator[Trial]:
        batch = runs.batches[0] | {"mask": np.zeros_like(runs.batches[0]["mask"])}
        yield runs.trial(LABEL, lambda: runs.instance.first_step(runs.parameters, batch))

    def judge(self, exhibit: Exhibit, trials: Sequence[Trial]) -> Iterator[Finding]:
        for trial in trials:
            if trial.refused:
                yield trial.label, refusal(trial)
                continue
            for name in exhibit.evidence.steps[0]:
                if name in ZERO or name.startswith((*GRADIENTS, "parameters/", "optimizer/")):
                    yield f"{LABEL}: {name}", _sentence(name, trial.observations)


def _sentence(name: str, observations: Observations) -> str:
    if name not in observations:
        return f"'{name}' is missing from a step with {LABEL}."
    values = [block.value for block in observations[name].blocks]
    if not all(np.isfinite(value).all() for value in values):
        return f"With {LABEL}, {name} is not finite."
    largest = max((float(np.abs(value).max(initial=0)) for value in values), default=0.0)
    owed = name in ZERO or name.startswith(GRADIENTS)
    return f"With {LABEL}, {name} is {largest:.3g}, not zero." if owed and largest else ""
