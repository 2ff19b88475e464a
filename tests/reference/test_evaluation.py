"""An evaluation behind a training step is what one pass over all held-out rows says, and leaves no trace."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from reference.held_out import ROWS, apart, evaluated_batches
from tests.reference.table import EXAMPLES, FRAMEWORKS, changed, one_source_of_masks, relative_error, to_numpy, trainer

EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)
EXAMPLE = replace(EXAMPLES["model, skewed"], make=evaluated_batches)
SUMS = ("loss", "accuracy", "tokens")


@EVERY_FRAMEWORK
def test_an_evaluation_by_another_trainer(framework):
    """That of a model without dropout, at the parameters after the step: its loss, its tokens, its best ids."""
    batch = EXAMPLE.batches()[0]
    rows, held_out = apart(batch)
    evaluating = import_module(f"reference.{framework}.evaluation").Trainer(EXAMPLE, "float64")
    with one_source_of_masks():
        state, observed = evaluating.step(evaluating.place(EXAMPLE.parameters()), batch)
        plain, _ = trainer(framework, EXAMPLE).step(trainer(framework, EXAMPLE).place(EXAMPLE.parameters()), rows)
    after = {name: to_numpy(value) for name, value in evaluating.collect(state).items()}
    untouched = trainer(framework, EXAMPLE).collect(plain)
    assert all(np.array_equal(after[name], to_numpy(value)) for name, value in untouched.items())

    calm = trainer(framework, replace(changed(EXAMPLE, dropout=0.0), recipe=replace(EXAMPLE.recipe, accumulation=1)))
    parameters = {name: after[f"parameters/{name}"] for name in EXAMPLE.shapes}
    seen = {name: to_numpy(value) for name, value in dict(calm.step(calm.place(parameters), held_out)[1]).items()}
    right = (seen["outputs/logits"].argmax(-1) == held_out["targets"]) * held_out["mask"]
    wanted = {"loss": seen["loss"], "accuracy": right.sum() / held_out["mask"].sum(), "tokens": seen["metrics/tokens"]}
    for name in SUMS:
        assert relative_error(to_numpy(observed[f"metrics/evaluation/{name}"]), wanted[name]) < 1e-13, name


def test_held_out_rows_divide_over_nothing():
    _, held_out = apart(EXAMPLE.batches()[0])
    assert {len(value) for value in held_out.values()} == {ROWS}
    assert all(ROWS % number for number in range(2, 17))
    assert "seeds" not in held_out
