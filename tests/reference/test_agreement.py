"""The first test of the house: two references, written apart, agree with each other and with finite differences."""

import numpy as np
import pytest

from reference.parameters import generator
from tests.reference.table import EXAMPLES, FRAMEWORKS, Example, relative_error, replayed, run, to_numpy, trainer

CLASSIFYING = ("perceptron, many skips", "convolution, strided")
EVERY_EXAMPLE = pytest.mark.parametrize("name", EXAMPLES)
EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)


@EVERY_EXAMPLE
def test_the_twins_agree(name):
    """Outputs, activations, losses, every gradient and three optimizer steps, to 1e-12 of the largest element.

    A tensor whose true value is nearly zero (the gradient of a key bias without rotation) is rounding only: it is held
    to 1e-12 of the global gradient norm.
    """
    for observed, wanted in zip(run("torch", EXAMPLES[name]), run("jax", EXAMPLES[name]), strict=True):
        assert list(observed) == list(wanted)
        for tensor, value in wanted.items():
            assert observed[tensor].shape == value.shape
            if not _vanishes(tensor, wanted):
                assert relative_error(observed[tensor], value) < 1e-12, tensor
            else:
                assert np.max(np.abs(observed[tensor] - value)) < 1e-12 * wanted["metrics/grad_norm"], tensor


def _vanishes(tensor: str, step: dict[str, np.ndarray]) -> bool:
    return np.max(np.abs(step[tensor])) < 1e-12 * step["metrics/grad_norm"]


@EVERY_EXAMPLE
def test_steps_use_different_data_and_clipping_acts(name):
    example, steps = EXAMPLES[name], run("jax", EXAMPLES[name])
    assert len({float(step["loss"]) for step in steps}) == len(steps)
    if example.recipe.clip_norm is not None:
        assert all(step["metrics/grad_norm"] > example.recipe.clip_norm for step in steps)


@EVERY_EXAMPLE
def test_gradients_agree_with_finite_differences(name):
    """Along a random direction per parameter, no element of it zero: the five-point stencil is good to 1e-10 here.

    The choice of experts is replayed: a loss jumps where a choice changes.
    """
    example = EXAMPLES[name]
    training, batch = trainer("jax", example), replayed("jax", example)
    first = {tensor: to_numpy(value) for tensor, value in _observe(training, example.parameters(), batch).items()}
    for parameter in example.shapes:
        gradient = first[f"gradients/{parameter}"]
        direction = generator(0, parameter).normal(size=gradient.shape)
        direction /= np.linalg.norm(direction)
        slope = _slope(training, example, batch, parameter, direction)
        assert abs(slope - np.sum(gradient * direction)) < 1e-9 + 1e-7 * np.linalg.norm(gradient), parameter


def _observe(training, parameters: dict, batch: dict) -> dict:
    return dict(training.step(training.place(parameters), batch)[1])


def _slope(training, example: Example, batch: dict, parameter: str, direction: np.ndarray, step: float = 2e-3) -> float:
    """d loss / d parameter along a direction: (8 (f1 - f-1) - (f2 - f-2)) / 12 h."""

    def loss(shift: float) -> float:
        moved = example.parameters() | {parameter: example.parameters()[parameter] + shift * direction}
        return float(_observe(training, moved, batch)["loss"])

    return (8 * (loss(step) - loss(-step)) - (loss(2 * step) - loss(-2 * step))) / (12 * step)


@EVERY_FRAMEWORK
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-4), ("bfloat16", 0.1)])
@pytest.mark.parametrize(
    "name", ["linear", "attention, grouped", "layer", "model, everything", "model, text", *CLASSIFYING]
)
def test_narrow_dtypes_stay_near_the_oracle(framework, name, dtype, bound):
    """Finite, in order, and near: outputs per tensor, gradients all together (some vanish one by one)."""
    example = EXAMPLES[name]
    observed, oracle = run(framework, example, dtype)[0], run("jax", example)[0]
    assert all(np.isfinite(value).all() for value in observed.values())
    for tensor in ("loss", *(tensor for tensor in oracle if tensor.startswith(("activations/", "outputs/")))):
        assert relative_error(observed[tensor], oracle[tensor]) < bound, tensor
    for tensor in (tensor for tensor in oracle if tensor.startswith("input_gradients/")):
        assert relative_error(observed[tensor], oracle[tensor]) < bound, tensor
    gradients = [tensor for tensor in oracle if tensor.startswith("gradients/")]
    error = np.sqrt(sum(np.sum((observed[tensor] - oracle[tensor]) ** 2) for tensor in gradients))
    assert error < bound * oracle["metrics/grad_norm"]


@EVERY_FRAMEWORK
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_reported_dtypes(framework, dtype):
    """Outputs are in the dtype of the case; losses, gradients, parameters and optimizer slots are master."""
    example = EXAMPLES["model, tied"]
    training = trainer(framework, example, dtype)
    state, observed = training.step(training.place(example.parameters()), example.batches()[0])
    for tensor, value in (dict(observed) | training.collect(state)).items():
        narrow = tensor.startswith("activations/") or tensor == "outputs/logits"
        wanted = "int32" if tensor == "optimizer/count" else dtype if narrow else "float32"
        assert str(value.dtype).removeprefix("torch.") == wanted, tensor


@EVERY_FRAMEWORK
def test_a_step_leaves_its_state_alone(framework):
    example = EXAMPLES["layer"]
    training = trainer(framework, example)
    state = training.place(example.parameters())
    first = training.step(state, example.batches()[0])[1]
    again = training.step(state, example.batches()[0])[1]
    assert all(np.array_equal(to_numpy(first[tensor]), to_numpy(again[tensor])) for tensor in first)
    for name, value in example.parameters().items():
        assert np.array_equal(to_numpy(training.collect(state)[f"parameters/{name}"]), value)
