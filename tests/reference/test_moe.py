"""Mixtures of experts: token by token in plain numpy, and laws of capacity, padding, losses and the router bias."""

from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.contract import Precision
from reference.architecture import mixtures, places
from reference.batches import slices
from reference.parameters import generator
from tests.reference.mixture_by_hand import losses, mixture
from tests.reference.table import (
    EXAMPLES,
    FRAMEWORKS,
    PLAIN_MOE,
    SGD_SHARES,
    changed,
    observe,
    relative_error,
    replayed,
    run,
    same,
    trainer,
)

EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)
MIXED = [name for name in EXAMPLES if mixtures(EXAMPLES[name].model)]
ALONE = [name for name in MIXED if EXAMPLES[name].model.kind == "moe"]
FULL = EXAMPLES["moe, everything"]


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", ALONE)
def test_a_mixture_by_hand(framework, name):
    """Outputs, choices, loads, the terms of the loss slice by slice and the loss."""
    example, observed = EXAMPLES[name], run(framework, EXAMPLES[name])[0]
    p, batch, recipe = example.parameters(), example.batches()[0], example.recipe
    pieces = slices(batch, recipe.accumulation, recipe.shares)
    by_hand = [mixture(example.model, p, piece) for piece in pieces]
    for tensor in ("activations/moe.router", "scores/moe", "choices/moe", "routing/moe", "outputs/y"):
        assert relative_error(observed[tensor], np.concatenate([part[tensor] for part in by_hand])) < 1e-13, tensor
    assert np.array_equal(observed["metrics/load/moe"], sum(part["load"] for part in by_hand))
    weights = [piece["mask"].sum() * example.model.hidden for piece in pieces]
    loss = np.sum(batch["mask"][..., None] * (observed["outputs/y"] - batch["targets"]) ** 2 / 2) / sum(weights)
    for term, coefficient in (
        ("balance_loss", example.model.balance_loss),
        ("router_z_loss", example.model.router_z_loss),
    ):
        mean = sum(w * part[term] for w, part in zip(weights, by_hand, strict=True)) / sum(weights)
        assert relative_error(observed[f"metrics/{term}"], np.array(coefficient * mean)) < 1e-13, term
        loss = loss + coefficient * mean
    assert relative_error(observed["loss"], loss) < 1e-13


@EVERY_FRAMEWORK
def test_losses_are_means_over_the_layers_that_have_them(framework):
    """Two mixtures in four layers, slices of 3, 2 and 1 rows, weighted tokens: from the logits and choices observed."""
    example = replace(changed(EXAMPLES["model, moe every other"], router_z_loss=0.125), recipe=SGD_SHARES)
    batch, observed, model = example.batches()[0], observe(framework, example, example.batches()[0]), example.model
    terms, start = {"balance_loss": 0.0, "router_z_loss": 0.0}, 0
    for piece in slices(batch, 3, (3, 2, 1)):
        rows = slice(start, start := start + len(piece["mask"]))
        for block in ("layers.1.moe", "layers.3.moe"):
            counts = (observed[f"choices/{block}"][rows][..., None] == np.arange(5)).sum(axis=2)
            logits = observed[f"activations/{block}.router"][rows]
            for term, value in losses(model, logits, counts, piece["attention_mask"] > 0).items():
                terms[term] += getattr(model, term) * value / 2 * piece["mask"].sum() / batch["mask"].sum()
    for term, value in terms.items():
        assert relative_error(observed[f"metrics/{term}"], np.array(value)) < 1e-13, term


@pytest.mark.parametrize("name", ["moe", "moe, everything", "model, moe"])
def test_experts_are_imbalanced(name):
    """With the drawn parameters some expert of some row has nothing to do, and some row asks one for too much."""
    example = EXAMPLES[name] if EXAMPLES[name].model.capacity_factor else changed(EXAMPLES[name], capacity_factor=0.8)
    limit = places(example.model, 7)
    for block in mixtures(example.model):
        asked = run("torch", example)[0][f"choices/{block}"]
        counts = (asked[..., None] == np.arange(5)).sum(axis=(1, 2))
        real = example.batches()[0]["attention_mask"].any(axis=1)
        assert (counts[real] == 0).any()
        assert (counts > limit).any()
        assert len(set(counts.sum(axis=0))) > 2
        admitted = run("torch", example)[0][f"routing/{block}"]
        assert (admitted >= 0).sum() < (asked >= 0).sum()


@EVERY_FRAMEWORK
def test_with_places_for_all_nothing_is_dropped(framework):
    batch = FULL.batches()[0]
    wide, none, narrow = (observe(framework, changed(FULL, capacity_factor=factor), batch) for factor in (5.0, 0, 0.4))
    same(wide, none)
    assert narrow["loss"] != none["loss"]


@EVERY_FRAMEWORK
def test_rows_do_not_meet(framework):
    """Permuted rows: permuted outputs and choices, the same loads and gradients; a row keeps its places."""
    example = replace(FULL, recipe=replace(FULL.recipe, accumulation=1))
    batch, order = example.batches()[0], np.array([3, 0, 5, 1, 4, 2])
    before = observe(framework, example, batch)
    after = observe(framework, example, {key: value[order] for key, value in batch.items()})
    for tensor in ("outputs/y", "routing/moe", "choices/moe", "scores/moe", "activations/moe.router"):
        assert relative_error(after[tensor], before[tensor][order]) < 1e-14, tensor
    assert np.array_equal(after["metrics/load/moe"], before["metrics/load/moe"])
    for tensor in ("loss", *(f"gradients/{name}" for name in example.shapes)):
        assert relative_error(after[tensor], before[tensor]) < 1e-13, tensor


@EVERY_FRAMEWORK
def test_a_router_bias_joins_the_choice_alone(framework):
    """Another bias, other choices; with the choices replayed it moves no bit. Its gradient is zero."""
    example = changed(FULL, capacity_factor=0.0)
    batch = replayed(framework, example)
    name = "moe.router.bias"
    other = example.parameters() | {name: np.array([0.5, -0.5, 0.25, -0.25, 0.0])}
    ours, theirs = (observe(framework, example, example.batches()[0], p) for p in (example.parameters(), other))
    assert not np.array_equal(ours["routing/moe"], theirs["routing/moe"])
    assert np.array_equal(ours["activations/moe.router"], theirs["activations/moe.router"])
    same(observe(framework, example, batch, other), observe(framework, example, batch), f"parameters/{name}", "scores/")
    assert np.all(ours[f"gradients/{name}"] == 0)


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", ["moe, everything", "moe, orthogonal", "layer, moe", "model, moe every other"])
def test_a_router_bias_follows_the_load(framework, name):
    """bias += rate * sign(mean load - load) over all slices, every step; no slot, no decay, no other change."""
    example, moved = EXAMPLES[name], set()
    assert example.recipe.weight_decay > 0
    assert example.recipe.clip_norm
    for block in mixtures(example.model):
        bias = example.parameters()[f"{block}.router.bias"]
        for step in run(framework, example):
            load = step[f"metrics/load/{block}"]
            bias = bias + example.model.bias_update_rate * np.sign(load.mean() - load)
            assert np.array_equal(step[f"parameters/{block}.router.bias"], bias)
            slots = [tensor for tensor in step if tensor.endswith("router.bias") and tensor.startswith("optimizer/")]
            assert slots
            assert all(np.all(step[slot] == 0) for slot in slots if "/master/" not in slot)
            moved |= set(np.sign(load.mean() - load))
    assert {-1, 1} <= moved
    still = observe(framework, changed(example, bias_update_rate=0.0), example.batches()[0])
    assert np.array_equal(still[f"parameters/{block}.router.bias"], example.parameters()[f"{block}.router.bias"])


@EVERY_FRAMEWORK
def test_an_even_load_moves_no_bias(framework):
    """Five experts of three choices of five tokens: the mean 3 is exact, and its sign is 0, not noise."""
    example = changed(PLAIN_MOE, router_bias=True, bias_update_rate=0.5, top_k=3)
    batch = example.batches()[0] | {"attention_mask": np.tile([1.0, 1, 1, 1, 1, 0, 0], (6, 1))}
    choices = (np.arange(7)[:, None] + np.arange(3)) % 5
    batch["routing.moe"] = np.tile(choices, (6, 1, 1)).astype(np.int32)
    observed = observe(framework, example, batch)
    assert np.array_equal(observed["metrics/load/moe"], np.full(5, 18))
    assert np.array_equal(observed["parameters/moe.router.bias"], example.parameters()["moe.router.bias"])


@EVERY_FRAMEWORK
def test_padding_asks_nobody(framework):
    """Other inputs on padding: only its own logits have other bits. Its routed output is zero, it takes no place."""
    example = changed(FULL, shared_ffn=0)
    batch = example.batches()[0]
    padded = batch["attention_mask"] == 0
    assert padded.any()
    other = batch | {"inputs": np.where(padded[..., None], 3 - batch["inputs"], batch["inputs"])}
    before, after = observe(framework, example, batch), observe(framework, example, other)
    moved = np.any(before["activations/moe.router"] != after["activations/moe.router"], axis=-1)
    assert np.array_equal(moved, padded)
    same(after, before, "activations/moe.router")
    assert np.all(before["outputs/y"][padded] == 0)
    assert np.all(before["choices/moe"][padded] == -1)
    assert before["metrics/load/moe"].sum() == 2 * batch["attention_mask"].sum()


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", ["moe, everything", "model, moe"])
def test_without_valid_elements_experts_learn_nothing(framework, name):
    batch = EXAMPLES[name].batches()[0]
    observed = observe(framework, EXAMPLES[name], batch | {"mask": np.zeros_like(batch["mask"])})
    assert observed["loss"] == 0
    assert observed[f"metrics/load/{mixtures(EXAMPLES[name].model)[0]}"].sum() > 0
    assert all(np.all(value == 0) for tensor, value in observed.items() if tensor.startswith("gradients/"))


@pytest.mark.parametrize("name", MIXED)
def test_the_loss_is_the_sum_of_its_terms(name):
    """Terms with a coefficient are positive, those without are zero; a language model has all four."""
    model = EXAMPLES[name].model
    for step in run("jax", EXAMPLES[name]):
        for term in ("balance_loss", "router_z_loss"):
            assert (step[f"metrics/{term}"] > 0) == (getattr(model, term) > 0)
        if model.kind == "language_model":
            terms = ("cross_entropy", "z_loss", "balance_loss", "router_z_loss")
            assert relative_error(sum(step[f"metrics/{term}"] for term in terms), step["loss"]) < 1e-14


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", ["moe, everything", "moe, gates before"])
def test_gradients_where_choices_are_free(framework, name):
    """Finite differences without replay, small enough that no choice changes: router, experts and the shared one."""
    example = EXAMPLES[name]
    batch, step = example.batches()[0], 1e-5
    first = observe(framework, example, batch)
    for parameter in example.shapes:
        gradient = first[f"gradients/{parameter}"]
        direction = generator(0, parameter).normal(size=gradient.shape)
        direction /= np.linalg.norm(direction)
        ends = [
            observe(
                framework, example, batch,
                example.parameters() | {parameter: example.parameters()[parameter] + shift * direction},
            )
            for shift in (-step, step)
        ]  # fmt: skip
        assert all(np.array_equal(end["routing/moe"], first["routing/moe"]) for end in ends), parameter
        slope = (ends[1]["loss"] - ends[0]["loss"]) / (2 * step)
        assert abs(slope - np.sum(gradient * direction)) < 1e-8, parameter


def test_observations_come_in_data_flow_order():
    names = list(run("jax", EXAMPLES["model, moe every other"])[0])
    routed = [f"{kind}/layers.1.moe" for kind in ("scores", "choices", "routing")]
    mixed = ["activations/layers.1.moe.router", *routed, "activations/layers.1.moe"]
    start = names.index("activations/layers.1.attention") + 1
    assert names[start : start + 6] == [*mixed, "activations/layers.1"]
    start = names.index("metrics/tokens") + 1
    terms = [f"metrics/{term}" for term in ("cross_entropy", "z_loss", "balance_loss", "router_z_loss")]
    assert names[start : start + 7] == ["metrics/load/layers.1.moe", "metrics/load/layers.3.moe", *terms, "loss"]
    assert list(run("jax", FULL)[0])[:5] == [
        "activations/moe.router", "scores/moe", "choices/moe", "routing/moe", "outputs/y"
    ]  # fmt: skip


@EVERY_FRAMEWORK
def test_a_loss_of_experts_knows_no_devices(framework):
    """A declared reduction cuts slices as if for devices, which would change what balance means."""
    precise = replace(FULL.recipe, precision=Precision(reduction="bfloat16"))
    with pytest.raises(ValueError, match="A loss of experts is that of a whole slice"):
        trainer(framework, replace(FULL, recipe=precise), "bfloat16")
    trainer(framework, replace(PLAIN_MOE, recipe=precise), "bfloat16")


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", ["layer", "model, tied"])
def test_without_experts_nothing_changes(framework, name):
    """All other fields of a mixture mean nothing: the same parameters, observations and bits."""
    example = EXAMPLES[name]
    declared = changed(
        example, top_k=3, moe_every=2, scores="sigmoid", gates_before=True, balance_loss=1.0, router_bias=True
    )
    assert declared.shapes == example.shapes
    same(observe(framework, declared, example.batches()[0]), run(framework, example)[0])
