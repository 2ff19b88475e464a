"""Routing that a batch brings along: followed to the letter, and the way to compare narrow dtypes."""

import numpy as np
import pytest

from reference.architecture import mixtures
from reference.parameters import generator
from tests.reference.mixture_by_hand import one_expert
from tests.reference.table import (
    EXAMPLES,
    FRAMEWORKS,
    PLAIN_MOE,
    changed,
    observe,
    relative_error,
    replayed,
    run,
    same,
    to_numpy,
    trainer,
)

EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)
UNMOVED = ("activations/moe.router", "scores/", "choices/", "metrics/load/", "metrics/balance_loss")
MIXED = [name for name in EXAMPLES if mixtures(EXAMPLES[name].model)]


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", MIXED)
def test_replay_of_the_own_choices(framework, name):
    """The same bits everywhere, where places are short too."""
    example = changed(EXAMPLES[name], dropout=0.0)
    same(observe(framework, example, replayed(framework, example)), run(framework, example)[0])


@EVERY_FRAMEWORK
def test_places_are_given_to_replayed_choices(framework):
    """With no capacity nobody is dropped; with another one others are than before, and loads are those of choices."""
    example = changed(PLAIN_MOE, capacity_factor=0.8)
    batch, observed = replayed(framework, example), run(framework, example)[0]
    none, narrow = (observe(framework, changed(example, capacity_factor=factor), batch) for factor in (0.0, 0.4))
    assert np.array_equal(none["routing/moe"], observed["choices/moe"])
    dropped = [int((choices["routing/moe"] < 0).sum()) for choices in (none, observed, narrow)]
    assert dropped[0] < dropped[1] < dropped[2]
    same(narrow, observed, *(name for name in observed if not name.startswith(UNMOVED)))


@EVERY_FRAMEWORK
def test_replay_of_other_choices(framework):
    """They are followed, -1 too, but on padding; gates stay the scores of the experts that were said."""
    example = changed(PLAIN_MOE, normalized_gates=True)
    batch = example.batches()[0]
    said = generator(0, "choices").permuted(np.tile(np.arange(5), (6, 7, 1)), axis=2)[..., :2].astype(np.int32)
    said[::2, :, 1] = -1
    observed = observe(framework, example, batch | {"routing.moe": said})
    wanted = np.where(batch["attention_mask"][..., None] > 0, said, -1)
    assert np.array_equal(observed["choices/moe"], wanted)
    assert np.array_equal(observed["routing/moe"], wanted)
    assert np.array_equal(observed["scores/moe"], run(framework, example)[0]["scores/moe"])
    assert np.array_equal(observed["metrics/load/moe"], [(wanted == e).sum() for e in range(5)])
    row, token = next((r, t) for r, t in np.argwhere(wanted[..., 0] >= 0) if r % 2 == 0)
    alone = one_expert(
        example.parameters(), wanted[row, token, 0], batch["inputs"][row, token]
    )  # its gate is score / score
    assert relative_error(observed["outputs/y"][row, token], alone) < 1e-14


@EVERY_FRAMEWORK
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-4), ("bfloat16", 0.1)])
@pytest.mark.parametrize("name", ["moe, everything", "model, moe every other"])
def test_narrow_dtypes_stay_near_the_oracle(framework, name, dtype, bound):
    """With the choices of the oracle; logits are in the dtype of the case, choices, loads and losses are not."""
    example = EXAMPLES[name]
    training, batch = trainer(framework, example, dtype), replayed("jax", example)
    observed = dict(training.step(training.place(example.parameters()), batch)[1])
    oracle = observe("jax", example, batch)
    for tensor, value in observed.items():
        if tensor.startswith(("activations/", "outputs/", "metrics/load", "scores/", "choices/", "routing/", "loss")):
            assert relative_error(to_numpy(value), oracle[tensor]) < bound, tensor
        narrow = tensor.startswith("activations/") or tensor in ("outputs/logits", "outputs/y")
        assert str(value.dtype).removeprefix("torch.") == (dtype if narrow else "float32"), tensor
