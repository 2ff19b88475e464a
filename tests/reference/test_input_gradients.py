"""Gradients of the loss with respect to the real inputs of a batch."""

from dataclasses import replace

import numpy as np
import pytest

from reference.parameters import generator
from tests.reference.table import EXAMPLES, FRAMEWORKS, SGD, Example, observe, relative_error, replayed, trainer

EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)
NAME = "input_gradients/inputs"
BLOCKS = (  # every kind of block, and what its inputs reach the loss through
    "linear",
    "linear, weighted",
    "attention, grouped",
    "attention, documents",
    "feed-forward, fused gate",
    "feed-forward, adapter",
    "layer, dropout",
    "layer, shares",
    "moe, everything",
    "moe, gates before",
    "layer, moe",
)


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", BLOCKS)
def test_they_agree_with_finite_differences(framework, name):
    """Along a random direction of all inputs; the experts that tokens chose are held fast."""
    example = EXAMPLES[name]
    batch = replayed(framework, example)
    slope = observe(framework, example, batch)[NAME]
    assert slope.shape == batch["inputs"].shape
    direction = generator(0, name).normal(size=slope.shape)
    assert abs(_slope(framework, example, batch, direction) - np.sum(slope * direction)) < 1e-9


def _slope(framework: str, example: Example, batch: dict, direction: np.ndarray) -> float:
    """d loss along a direction: the five-point stencil."""

    def loss(shift: float) -> float:
        moved = batch | {"inputs": batch["inputs"] + shift * direction}
        return float(observe(framework, example, moved)["loss"])

    step = 2e-4
    return (8 * (loss(step) - loss(-step)) - (loss(2 * step) - loss(-2 * step))) / (12 * step)


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", ["linear", "attention, grouped"])
def test_slices_do_not_change_them(framework, name):
    """The weight is that of the whole batch, and rows keep their order."""
    example = EXAMPLES[name]
    batch = example.batches()[0]
    whole = observe(framework, replace(example, recipe=SGD), batch)
    sliced = observe(framework, replace(example, recipe=replace(SGD, accumulation=3, shares=(3, 2, 1))), batch)
    assert list(sliced) == list(whole)
    assert relative_error(sliced[NAME], whole[NAME]) < 1e-13


@EVERY_FRAMEWORK
def test_they_are_zero_where_nothing_counts(framework):
    example = EXAMPLES["attention, grouped"]
    batch = example.batches()[0]
    assert np.all(observe(framework, example, batch | {"mask": 0 * batch["mask"]})[NAME] == 0)


@pytest.mark.parametrize("name", EXAMPLES)
def test_they_are_there_for_real_inputs_alone(name):
    """Token ids have none; they come last in the backward pass, before the norm."""
    example = EXAMPLES[name]
    training = trainer("torch", example)
    observed = list(training.step(training.place(example.parameters()), example.batches()[0])[1])
    first = f"gradients/{next(iter(example.shapes))}"
    wanted = [first, "metrics/grad_norm"] if example.model.kind == "language_model" else [NAME, "metrics/grad_norm"]
    assert observed[-2:] == wanted
