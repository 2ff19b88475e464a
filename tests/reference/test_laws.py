"""Laws that need no second implementation: causality, masks, order, exactness, and clear refusals."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.contract.contract import Precision, Recipe
from reference.architecture import Architecture, shapes
from reference.batches import random_batches
from reference.parameters import draw
from tests.reference.table import (
    EXAMPLES,
    FRAMEWORKS,
    LENGTH,
    ROWS,
    SGD,
    Example,
    relative_error,
    run,
    to_numpy,
    trainer,
)

EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)
MODEL = EXAMPLES["model, tied"]


def observe(framework: str, example: Example, batch: dict, dtype: str = "float64") -> dict[str, np.ndarray]:
    training = trainer(framework, example, dtype)
    observed = training.step(training.place(example.parameters()), batch)[1]
    return {name: to_numpy(value) for name, value in dict(observed).items()}


@EVERY_FRAMEWORK
@settings(max_examples=10, deadline=None, derandomize=True)
@given(row=st.integers(0, ROWS - 1), token=st.integers(0, LENGTH - 1), shift=st.integers(1, 28))
def test_no_token_sees_a_later_one(framework, row, token, shift):
    """Changing one token leaves the outputs of all earlier tokens and of all other rows alone, and moves its own."""
    batch = MODEL.batches()[0]
    tokens = batch["tokens"].copy()
    tokens[row, token] = (tokens[row, token] + shift) % 29
    before, after = observe(framework, MODEL, batch), observe(framework, MODEL, batch | {"tokens": tokens})
    moved = np.any(before["outputs/logits"] != after["outputs/logits"], axis=-1)
    assert moved[row, token]
    moved[row, token:] = False
    assert not moved.any()


@EVERY_FRAMEWORK
def test_padding_is_seen_by_nobody_else(framework):
    batch = MODEL.batches()[0]
    padded = batch["attention_mask"] == 0
    assert padded.any()
    tokens = np.where(padded, (batch["tokens"] + 1) % 29, batch["tokens"]).astype(np.int32)
    before, after = observe(framework, MODEL, batch), observe(framework, MODEL, batch | {"tokens": tokens})
    moved = np.any(before["outputs/logits"] != after["outputs/logits"], axis=-1)
    assert np.array_equal(moved, padded)


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", ["linear", "layer", "model, everything", "perceptron", "convolution"])
def test_a_batch_without_valid_elements_has_no_gradient(framework, name):
    batch = EXAMPLES[name].batches()[0]
    observed = observe(framework, EXAMPLES[name], batch | {"mask": np.zeros_like(batch["mask"])})
    assert observed["loss"] == 0
    assert observed["metrics/tokens"] == 0
    assert all(np.all(value == 0) for tensor, value in observed.items() if "gradients/" in tensor)


@EVERY_FRAMEWORK
def test_slices_add_up_to_one_large_batch(framework):
    """Slices with very different numbers of valid tokens: a mean of means would be far off."""
    batch = MODEL.batches()[0]
    whole = observe(framework, MODEL, batch)
    for slices, shares in ((2, ()), (3, ()), (6, ()), (3, (3, 2, 1)), (2, (1, 5))):
        cut = replace(MODEL, recipe=replace(MODEL.recipe, accumulation=slices, shares=shares))
        observed = observe(framework, cut, batch)
        for tensor, value in whole.items():
            assert relative_error(observed[tensor], value) < 1e-13, tensor


@EVERY_FRAMEWORK
def test_the_order_of_rows_does_not_matter(framework):
    batch, order = MODEL.batches()[0], np.array([3, 0, 5, 1, 4, 2])
    before = observe(framework, MODEL, batch)
    after = observe(framework, MODEL, {key: value[order] for key, value in batch.items()})
    assert relative_error(after["outputs/logits"], before["outputs/logits"][order]) < 1e-14
    for tensor in ("loss", *(f"gradients/{name}" for name in MODEL.shapes)):
        assert relative_error(after[tensor], before[tensor]) < 1e-13, tensor


@EVERY_FRAMEWORK
@pytest.mark.parametrize("recipe", [Recipe(), Recipe(accumulation=2)], ids=["whole", "sliced"])
def test_dyadic_inputs_leave_nothing_to_round(framework, recipe):
    """float32 equals float64 bit for bit, loss and first update too (8 features: the division is exact)."""
    model = Architecture(kind="linear", hidden=24, outputs=8)
    parameters = draw(shapes(model), 0, dyadic=True)
    example = Example(model=model, recipe=recipe)
    for batch in random_batches(model, 6, 1, 0, 2, dyadic=True):
        results = []
        for dtype in ("float64", "float32"):
            training = trainer(framework, example, dtype)
            state, observed = training.step(training.place(parameters), batch)
            results.append(dict(observed) | training.collect(state))
        wide, narrow = results
        for tensor in wide:
            if tensor != "metrics/grad_norm":  # a square root
                assert np.array_equal(to_numpy(wide[tensor]), to_numpy(narrow[tensor])), tensor


def test_observations_come_in_data_flow_order():
    observed = list(run("jax", EXAMPLES["model"])[0])
    layers = [f"activations/layers.{i}{part}" for i in (0, 1) for part in (".attention", ".feedforward", "")]
    forward = ["activations/embedding", *layers, "activations/final_norm", "outputs/logits", "outputs/token_losses"]
    metrics = ["metrics/tokens", "metrics/cross_entropy", "metrics/z_loss", "loss"]
    names = list(EXAMPLES["model"].shapes)
    backward = [f"gradients/{name}" for name in reversed(names)] + ["metrics/grad_norm"]
    collected = [f"{slot}/{name}" for slot in ("parameters", "optimizer/momentum") for name in names]
    assert observed == [*forward, *metrics, *backward, *collected, "optimizer/count"]
    layer = [name for name in run("jax", EXAMPLES["layer"])[0] if name.startswith(("activations/", "outputs/"))]
    assert layer == ["activations/layer.attention", "activations/layer.feedforward", "outputs/y"]


def test_the_loss_is_the_sum_of_its_terms():
    for step in run("jax", EXAMPLES["model, everything"]):
        assert step["metrics/z_loss"] > 0
        assert relative_error(step["metrics/cross_entropy"] + step["metrics/z_loss"], step["loss"]) < 1e-15
        assert relative_error(step["outputs/token_losses"].sum() / step["metrics/tokens"], step["loss"]) < 1e-15


def test_jax_compiles_the_step_once():
    example = EXAMPLES["linear"]
    training = type(trainer("jax", example))(example, "float64")
    for seed in (0, 1):
        state = training.place(draw(example.shapes, seed))
        for batch in example.batches():
            state, _ = training.step(state, batch)
    assert training._compiled._cache_size() == 1


def test_the_recipe_can_narrow_the_computation():
    """compute=bfloat16 in a float32 case: activations in bfloat16, everything that lasts in float32."""
    example = replace(EXAMPLES["layer"], recipe=replace(SGD, precision=Precision(compute="bfloat16")))
    training = trainer("torch", example, "float32")
    state, observed = training.step(training.place(example.parameters()), example.batches()[0])
    assert str(observed["outputs/y"].dtype) == "torch.bfloat16"
    assert {str(p.dtype) for name, p in training.collect(state).items() if "count" not in name} == {"torch.float32"}


@EVERY_FRAMEWORK
def test_refusals_say_what_is_wrong(framework):
    training, parameters = trainer(framework, MODEL), MODEL.parameters()
    with pytest.raises(ValueError, match=r"missing \['final_norm.scale'\], unknown \['final_norm.gain'\]"):
        training.place({name.replace("final_norm.scale", "final_norm.gain"): p for name, p in parameters.items()})
    with pytest.raises(ValueError, match="has shape"):
        training.place(parameters | {"final_norm.scale": np.ones(3)})
    with pytest.raises(ValueError, match="6 rows cannot be cut into 4 equal slices"):
        observe(framework, replace(MODEL, recipe=Recipe(accumulation=4)), MODEL.batches()[0])
    with pytest.raises(ValueError, match=r"6 rows cannot be cut into 2 slices of \(3, 1\) shares"):
        observe(framework, replace(MODEL, recipe=Recipe(accumulation=2, shares=(3, 1))), MODEL.batches()[0])
    with pytest.raises(ValueError, match="give one share for each slice"):
        observe(framework, replace(MODEL, recipe=Recipe(accumulation=2, shares=(3, 2, 1))), MODEL.batches()[0])
    with pytest.raises(ValueError, match="No precision rules for dtype 'int8'"):
        trainer(framework, MODEL, "int8")


def test_jax_without_float64_is_refused():
    import jax

    jax.config.update("jax_enable_x64", False)
    with pytest.raises(RuntimeError, match="JAX_ENABLE_X64=1"):
        type(trainer("jax", MODEL, "float32"))(MODEL, "float64")
