"""Perceptron and convolution: laws of their own, by hand, and gradients with respect to inputs."""

from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.contract import Precision
from reference.architecture import Architecture, shapes
from reference.batches import random_batches, shard_edges, skewed_batches, weighted_batches
from reference.parameters import draw
from tests.reference.table import EXAMPLES, FRAMEWORKS, SGD, Example, relative_error, run, to_numpy, trainer

EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)
PERCEPTRON, CONVOLUTION = EXAMPLES["perceptron, many skips"], EXAMPLES["convolution, strided"]
CLASSIFYING = [name for name in EXAMPLES if name.startswith(("perceptron", "convolution"))]


def observe(framework: str, example: Example, batch: dict, parameters: dict | None = None) -> dict[str, np.ndarray]:
    training = trainer(framework, example)
    observed = training.step(training.place(parameters or example.parameters()), batch)[1]
    return {name: to_numpy(value) for name, value in dict(observed).items()}


def gelu(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@EVERY_FRAMEWORK
def test_a_perceptron_by_hand(framework):
    """Skips 0 -> 1, then 0, 1 and 2 -> 3, which is the last layer and has no activation."""
    p, batch, observed = PERCEPTRON.parameters(), PERCEPTRON.batches()[0], run(framework, PERCEPTRON)[0]

    def layer(i: int, x: np.ndarray) -> np.ndarray:
        return x @ p[f"layers.{i}.weight"] + p[f"layers.{i}.bias"]

    first = gelu(layer(0, batch["inputs"]))
    second = gelu(layer(1, first) + first)
    third = gelu(layer(2, second))
    for i, wanted in enumerate((first, second, third)):
        assert relative_error(observed[f"activations/layers.{i}"], wanted) < 1e-14
    logits = layer(3, third) + first + second + third
    assert relative_error(observed["outputs/logits"], logits) < 1e-14
    _check_losses(PERCEPTRON.model, observed, logits, batch)


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", [name for name in CLASSIFYING if name.startswith("convolution")])
def test_a_convolution_by_hand(framework, name):
    """Pixel by pixel over the image with a border of zeros."""
    example = EXAMPLES[name]
    p, batch, observed = example.parameters(), example.batches()[0], run(framework, example)[0]
    x = batch["inputs"]
    for i, stride in enumerate(example.model.strides):
        weight, bias = p[f"convolutions.{i}.weight"], p.get(f"convolutions.{i}.bias", 0)
        height, width = (-(-size // stride) for size in x.shape[1:3])
        bordered, y = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), np.empty((len(x), height, width, weight.shape[3]))
        for h in range(height):
            for w in range(width):
                window = bordered[:, stride * h : stride * h + 3, stride * w : stride * w + 3]
                y[:, h, w] = window.reshape(len(x), -1) @ weight.reshape(-1, weight.shape[3]) + bias
        x = gelu(y)
        assert relative_error(observed[f"activations/convolutions.{i}"], x) < 1e-14
    logits = x.mean(axis=(1, 2)) @ p["head.weight"] + p.get("head.bias", 0)
    assert relative_error(observed["outputs/logits"], logits) < 1e-14
    _check_losses(example.model, observed, logits, batch)


def _check_losses(model: Architecture, observed: dict, logits: np.ndarray, batch: dict) -> None:
    lse = np.log(np.exp(logits).sum(axis=1))
    labels = (1 - model.label_smoothing) * np.eye(logits.shape[1])[batch["targets"]]
    labels += model.label_smoothing / logits.shape[1]
    entropy, z = batch["mask"] * (lse - (labels * logits).sum(axis=1)), batch["mask"] * model.z_loss * lse**2
    weight = batch["mask"].sum()
    assert relative_error(observed["outputs/token_losses"], entropy + z) < 1e-13
    assert observed["metrics/tokens"] == weight
    wanted = {"metrics/cross_entropy": entropy, "metrics/z_loss": z, "loss": entropy + z}
    for tensor, terms in wanted.items():
        assert relative_error(observed[tensor], terms.sum() / weight) < 1e-13, tensor


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", CLASSIFYING)
def test_input_gradients_agree_with_finite_differences(framework, name):
    """Element by element, of every row that counts; the others have none."""
    example = EXAMPLES[name]
    batch, slope = example.batches()[0], run(framework, example)[0]["input_gradients/inputs"]
    assert slope.shape == batch["inputs"].shape
    silent = batch["mask"] == 0
    assert silent.any()
    assert np.all(slope[silent] == 0)
    for row in np.flatnonzero(~silent):
        element = (row, *(size // 2 for size in slope.shape[1:]))
        assert abs(_slope(framework, example, batch, "inputs", element) - slope[element]) < 1e-9, element


@EVERY_FRAMEWORK
def test_a_skip_has_a_gradient(framework):
    """Where the layer that a skip passes by is silent, the layer before it still learns, through the skip alone."""
    model = replace(PERCEPTRON.model, widths=(5, 6, 6), skips=((0, 1),))
    example, cut = (Example(model=replace(model, skips=skips), recipe=SGD) for skips in (model.skips, ()))
    batch, parameters = example.batches()[0], example.parameters()
    parameters = parameters | {"layers.1.weight": np.zeros((6, 6))}
    observed = observe(framework, example, batch, parameters)
    for element in ((0, 0), (3, 5)):
        slope = _slope(framework, example, parameters, "layers.0.weight", element, batch)
        assert abs(slope) > 1e-4
        assert abs(slope - observed["gradients/layers.0.weight"][element]) < 1e-9
    assert np.all(observe(framework, cut, batch, parameters)["gradients/layers.0.weight"] == 0)


def _slope(
    framework: str, example: Example, arrays: dict, key: str, element: tuple, batch: dict | None = None
) -> float:
    """d loss / d one element of a batch, or of parameters where the batch is given: the five-point stencil."""

    def loss(shift: float) -> float:
        moved = arrays[key].copy()
        moved[element] += shift
        changed = arrays | {key: moved}
        observed = (
            observe(framework, example, changed) if batch is None else observe(framework, example, batch, changed)
        )
        return float(observed["loss"])

    step = 2e-3
    return (8 * (loss(step) - loss(-step)) - (loss(2 * step) - loss(-2 * step))) / (12 * step)


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", ["perceptron", "convolution"])
def test_slices_do_not_change_input_gradients(framework, name):
    """The weight is that of the whole batch, and rows keep their order; slices have very different shares of it."""
    example = EXAMPLES[name]
    batch = skewed_batches(example.model, 6, 1, 0, 1)[0]
    whole = observe(framework, replace(example, recipe=replace(SGD, accumulation=1)), batch)
    for number, shares in ((2, ()), (3, ()), (3, (3, 2, 1))):
        recipe = replace(SGD, accumulation=number, shares=shares)
        sliced = observe(framework, replace(example, recipe=recipe), batch)
        assert list(sliced) == list(whole)
        for tensor, value in whole.items():
            assert relative_error(sliced[tensor], value) < 1e-13, tensor


def test_input_gradients_come_just_behind_the_gradients():
    observed = list(run("jax", EXAMPLES["perceptron"])[0])
    activations = [f"activations/layers.{i}" for i in range(3)]
    metrics = ["metrics/tokens", "metrics/cross_entropy", "metrics/z_loss", "loss"]
    backward = [f"gradients/layers.{i}.{part}" for i in (3, 2, 1, 0) for part in ("bias", "weight")]
    forward = [*activations, "outputs/logits", "outputs/token_losses", *metrics, *backward, "input_gradients/inputs"]
    assert observed[: len(forward)] == forward


@EVERY_FRAMEWORK
@pytest.mark.parametrize("name", ["perceptron", "convolution"])
def test_what_bfloat16_narrows(framework, name):
    """Activations and logits are narrow, losses and gradients are not, unless the recipe narrows gradients."""
    for gradients in ("float32", "bfloat16"):
        precision = Precision(gradients=gradients, reduction=gradients)
        example = replace(EXAMPLES[name], recipe=replace(EXAMPLES[name].recipe, precision=precision))
        training = trainer(framework, example, "bfloat16")
        _, observed = training.step(training.place(example.parameters()), example.batches()[0])
        for tensor, value in dict(observed).items():
            narrow = tensor.startswith("activations/") or tensor == "outputs/logits"
            wanted = "bfloat16" if narrow else gradients if "gradients/" in tensor else "float32"
            assert str(value.dtype).removeprefix("torch.") == wanted, tensor


@pytest.mark.parametrize("name", CLASSIFYING)
@pytest.mark.parametrize("make", [random_batches, skewed_batches, weighted_batches])
def test_batches_of_classifiers(name, make):
    model = EXAMPLES[name].model
    flat = model.kind == "perceptron"
    shape, classes = (model.widths[:1], model.widths[-1]) if flat else (model.image, model.outputs)
    for rows in (2, 3, 8, 24):
        batch = make(model, rows, 1, 0, 1)[0]
        assert {key: value.shape for key, value in batch.items()} == {
            "inputs": (rows, *shape), "targets": (rows,), "mask": (rows,),
        }  # fmt: skip
        valid = batch["mask"] > 0
        assert 0 < valid.sum() < rows
        assert batch["targets"].dtype == np.int32
        assert 0 <= batch["targets"].min() <= batch["targets"].max() < classes
        if make is skewed_batches:
            assert not valid[: rows // 3].any()
    assert {0, classes - 1, *shard_edges(classes).tolist()} <= set(batch["targets"][valid].tolist())


def test_the_fan_in_of_a_convolution():
    weight = draw({"convolutions.0.weight": (3, 3, 40, 50)}, 0)["convolutions.0.weight"]
    assert abs(weight.std() * np.sqrt(9 * 40) - 1) < 0.02


def test_shapes():
    assert shapes(replace(PERCEPTRON.model, widths=(4, 3, 2), skips=())) == {
        "layers.0.weight": (4, 3), "layers.0.bias": (3,), "layers.1.weight": (3, 2), "layers.1.bias": (2,),
    }  # fmt: skip
    assert shapes(CONVOLUTION.model) == {
        "convolutions.0.weight": (3, 3, 3, 4), "convolutions.0.bias": (4,),
        "convolutions.1.weight": (3, 3, 4, 5), "convolutions.1.bias": (5,),
        "head.weight": (5, 5), "head.bias": (5,),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"widths": (4, 3, 5, 2), "skips": ((0, 1),)}, r"adds 3 features of layer 0 to 5 of layer 1: make the widths"),
        ({"widths": (4, 3, 3), "skips": ((1, 1),)}, r"Skip \(1, 1\) must lead from a layer to a later one"),
        ({"widths": (4, 3, 3), "skips": ((0, 2),)}, "layers go from 0 to 1"),
        ({"widths": (4, 3, 3), "skips": ((-1, 1),)}, "must lead from a layer to a later one"),
        ({"widths": (4,), "skips": ()}, "needs two widths or more"),
        ({"kind": "convolution", "channels": (4, 5), "strides": (1,)}, r"channels \(4, 5\) and strides \(1,\)"),
        ({"kind": "convolution", "channels": (), "strides": ()}, "at least one of them"),
        ({"kind": "recurrence"}, "Unknown kind of model 'recurrence': .* convolution or contrastive"),
    ],
)
def test_impossible_models_are_refused(changes, reason):
    with pytest.raises(ValueError, match=reason):
        shapes(replace(PERCEPTRON.model, **changes))
