"""Who sees whom: documents, the future, and which token is whose target."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.batches import random_batches
from tests.reference.table import EXAMPLES, FRAMEWORKS, LENGTH, ROWS, Example, to_numpy, trainer

EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)
BOTH_WAYS, PACKED = EXAMPLES["attention, documents"], EXAMPLES["model, packed"]


def observe(framework: str, example: Example, batch: dict) -> dict[str, np.ndarray]:
    training = trainer(framework, example)
    observed = training.step(training.place(example.parameters()), batch)[1]
    return {name: to_numpy(value) for name, value in dict(observed).items()}


def moved(framework: str, example: Example, tensor: str, before: dict, after: dict) -> np.ndarray:
    """[B, S]: which tokens have other bits."""
    left, right = (observe(framework, example, batch)[tensor] for batch in (before, after))
    return np.any(left != right, axis=-1)


@EVERY_FRAMEWORK
@pytest.mark.parametrize("example", [BOTH_WAYS, PACKED], ids=["attention", "model"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(row=st.integers(0, ROWS - 1), token=st.integers(0, LENGTH - 1))
def test_documents_are_islands(framework, example, row, token):
    """All tokens of one document change: every other output has the same bits, those of the document move."""
    batch = example.batches()[0]
    document = np.cumsum(batch["document_starts"], axis=1)
    inside = (np.arange(ROWS)[:, None] == row) & (document == document[row, token])
    data = "tokens" if "tokens" in batch else "inputs"
    other = (batch[data] + 1) % 29 if data == "tokens" else -batch[data]
    changed = np.where(inside if data == "tokens" else inside[..., None], other, batch[data]).astype(batch[data].dtype)
    tensor = "outputs/logits" if data == "tokens" else "outputs/y"
    assert np.array_equal(moved(framework, example, tensor, batch, batch | {data: changed}), inside)


@EVERY_FRAMEWORK
def test_without_causality_a_token_sees_the_future(framework):
    """In a row without padding the last token moves all others; in its own document if there are several."""
    for example in (EXAMPLES["attention, bidirectional"], BOTH_WAYS):
        batch = example.batches()[0] | {"attention_mask": np.ones((ROWS, LENGTH))}
        inputs = batch["inputs"].copy()
        inputs[:, -1] *= -1
        document = np.cumsum(batch.get("document_starts", np.zeros((ROWS, LENGTH))), axis=1)
        wanted = document == document[:, -1:]
        assert np.array_equal(moved(framework, example, "outputs/y", batch, batch | {"inputs": inputs}), wanted)


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", ["model, packed", "model, shifted", "model, packed text"])
def test_a_target_is_the_next_token(framework, name):
    """The same batch with its targets spelled out: the same bits everywhere. What the last token predicts is free."""
    example = EXAMPLES[name]
    explicit = replace(example, model=replace(example.model, shift_labels=False))
    batch = example.batches()[0]
    assert "targets" not in batch
    targets = np.concatenate([batch["tokens"][:, 1:], 7 + 0 * batch["tokens"][:, :1]], axis=1)
    observed, wanted = observe(framework, example, batch), observe(framework, explicit, batch | {"targets": targets})
    assert all(np.array_equal(observed[tensor], value) for tensor, value in wanted.items())


@EVERY_FRAMEWORK
def test_weights_weigh(framework):
    """A weight of 2 counts a token twice: as if every row of the batch stood there as often as it weighs."""
    example = EXAMPLES["model, weighted"]
    example = replace(example, recipe=replace(example.recipe, accumulation=1))
    batch = random_batches(example.model, ROWS, LENGTH, 1, 1)[0]
    weights = np.array([1, 2, 1, 4, 2, 1])
    weighted = observe(framework, example, batch | {"mask": batch["mask"] * weights[:, None]})
    repeated = observe(framework, example, {key: np.repeat(value, weights, axis=0) for key, value in batch.items()})
    assert weighted["metrics/tokens"] == repeated["metrics/tokens"]
    for tensor in ("loss", *(f"gradients/{name}" for name in example.shapes)):
        scale = np.max(np.abs(repeated[tensor])) + repeated["metrics/grad_norm"] * 1e-3
        assert np.max(np.abs(weighted[tensor] - repeated[tensor])) < 1e-13 * scale, tensor
