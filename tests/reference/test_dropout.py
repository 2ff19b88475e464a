"""Dropout masks: functions of seed, site, token and feature, and of nothing else."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.contract.contract import Recipe
from tests.reference.table import EXAMPLES, FRAMEWORKS, Example, relative_error, to_numpy, trainer

EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)
PACKED = EXAMPLES["model, packed"]
SEEDS = st.lists(st.integers(0, 2**31 - 1), min_size=2, max_size=5, unique=True)


def keep_mask(framework: str, seeds, site: str = "embedding", shape=(7, 5), rate: float = 0.25) -> np.ndarray:
    seeds = np.array(seeds, dtype=np.int32)
    if framework == "torch":
        seeds = import_module("torch").tensor(seeds)
    return np.asarray(import_module(f"reference.{framework}.dropout").keep_mask(seeds, site, shape, rate))


@EVERY_FRAMEWORK
@settings(max_examples=20, deadline=None, derandomize=True)
@given(seeds=SEEDS, site=st.sampled_from(["embedding", "layers.0.attention", "layers.10.feedforward"]))
def test_a_row_knows_no_other_row(framework, seeds, site):
    together = keep_mask(framework, seeds, site)
    assert np.array_equal(keep_mask(framework, seeds[::-1], site)[::-1], together)
    assert np.array_equal(keep_mask(framework, seeds[1:], site), together[1:])
    assert np.array_equal(keep_mask(framework, [seeds[0]] * 2, site), together[[0, 0]])


@EVERY_FRAMEWORK
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_masks_are_random(framework, rate):
    """Each row keeps its share, within 5 binomial deviations; rows, sites, tokens and features are not related."""
    shape = (33, 40)
    mask, other = (keep_mask(framework, range(64), site, shape, rate) for site in ("embedding", "layers.0.attention"))
    deviation = np.sqrt(rate * (1 - rate) / mask[0].size)
    assert np.max(np.abs(mask.mean(axis=(1, 2)) - (1 - rate))) < 5 * deviation
    pairs = {
        "sites": (mask, other),
        "rows": (mask[1:], mask[:-1]),
        "tokens": (mask[:, 1:], mask[:, :-1]),
        "features": (mask[..., 1:], mask[..., :-1]),
        "site of the next row": (mask[1:], other[:-1]),
    }
    for name, (left, right) in pairs.items():
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 5 / np.sqrt(left.size), name


def test_jax_draws_the_same_in_every_transformation():
    jax, seeds = import_module("jax"), np.array([5, 2**31 - 1, 0], dtype=np.int32)
    drawn = import_module("reference.jax.dropout").keep_mask
    wanted = keep_mask("jax", seeds)
    draw = lambda seeds: drawn(seeds, "embedding", (7, 5), 0.25)  # noqa: E731
    assert np.array_equal(jax.jit(draw)(seeds), wanted)
    assert np.array_equal(jax.vmap(lambda seed: draw(seed[None])[0])(seeds), wanted)
    assert np.array_equal(jax.lax.scan(lambda _, seed: (None, draw(seed[None])[0]), None, seeds)[1], wanted)
    jax.config.update("jax_enable_x64", False)
    assert np.array_equal(draw(seeds), wanted)


def step(framework: str, example: Example, batch, dtype: str = "float64") -> dict[str, np.ndarray]:
    training = trainer(framework, example, dtype)
    observed = dict(training.step(training.place(example.parameters()), batch)[1])
    return {name: to_numpy(value) for name, value in observed.items()}


@EVERY_FRAMEWORK
def test_masks_know_neither_dtype_nor_slice_nor_order(framework):
    batch, order = PACKED.batches()[0], np.array([3, 0, 5, 1, 4, 2])
    sites = ["embedding", *(f"layers.{i}.{part}" for i in (0, 1) for part in ("attention", "feedforward"))]
    wanted = step(framework, PACKED, batch)
    assert [name for name in wanted if name.startswith("masks/")] == [f"masks/{site}" for site in sites]
    whole, shuffled = (
        replace(PACKED, recipe=Recipe()),
        step(framework, PACKED, {key: value[order] for key, value in batch.items()}),
    )
    for observed in (step(framework, PACKED, batch, "bfloat16"), step(framework, whole, batch)):
        assert all(np.array_equal(observed[f"masks/{site}"], wanted[f"masks/{site}"]) for site in sites)
    assert all(np.array_equal(shuffled[f"masks/{site}"], wanted[f"masks/{site}"][order]) for site in sites)
    assert relative_error(shuffled["loss"], wanted["loss"]) < 1e-14


@EVERY_FRAMEWORK
def test_masks_differ_by_step_site_and_row(framework):
    masks = []
    for batch in PACKED.batches():
        masks += [row for name, mask in step(framework, PACKED, batch).items() if "masks/" in name for row in mask]
    assert {tuple(np.unique(mask)) for mask in masks} == {(0.0, 1.0)}
    assert len({mask.tobytes() for mask in masks}) == len(masks) == 3 * 5 * 6


@EVERY_FRAMEWORK
def test_what_is_dropped_is_kept_from_the_residual_stream(framework):
    """The seeds are all that changes: the embedding stays, what follows does not."""
    batch = PACKED.batches()[0]
    before, after = (step(framework, PACKED, batch | {"seeds": batch["seeds"] + shift}) for shift in (0, 1))
    assert np.array_equal(before["activations/embedding"], after["activations/embedding"])
    for tensor in ("activations/layers.0", "outputs/logits", "loss", "gradients/embedding.weight"):
        assert not np.array_equal(before[tensor], after[tensor])
