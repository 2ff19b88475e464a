"""Choices, places, gates and losses of experts by hand, on cases small enough to read."""

import math
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from reference.architecture import places, shapes
from reference.parameters import draw
from tests.reference.table import EXAMPLES, FRAMEWORKS, SGD, Example, relative_error, to_numpy, trainer

jnp, torch = pytest.importorskip("jax.numpy"), pytest.importorskip("torch")
EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)
MODEL = EXAMPLES["moe"].model


def routing(framework: str, function: str, *arguments) -> np.ndarray:
    """A function of the routing of a framework, on numpy arrays."""
    tensors = [
        (jnp.asarray(value) if framework == "jax" else torch.tensor(value)) if isinstance(value, np.ndarray) else value
        for value in arguments
    ]
    return to_numpy(getattr(import_module(f"reference.{framework}.routing"), function)(*tensors))


@EVERY_FRAMEWORK
@pytest.mark.parametrize(
    ("scores", "bias", "wanted"),
    [
        ([0.25, 0.25, 0.25, 0.25], None, [0, 1, 2]),
        ([0.125, 0.5, 0.25, 0.5], None, [1, 3, 2]),
        ([0.125, 0.25, 0.5, 0.125], None, [2, 1, 0]),
        ([0.5, 0.25, 0.125, 0.125], [-0.375, 0.0, 0.125, 0.0], [1, 2, 0]),  # ranked .125 .25 .25 .125
    ],
)
def test_of_equal_experts_the_lower_number_wins(framework, scores, bias, wanted):
    ranked = routing(framework, "ranked", np.array([[scores]]), None if bias is None else np.array(bias))
    assert routing(framework, "best", ranked, 3).tolist() == [[wanted]]


@EVERY_FRAMEWORK
@pytest.mark.parametrize("experts", [5, 40])
def test_a_router_of_zeros_chooses_the_first_experts(framework, experts):
    """Many experts: an unstable sort keeps the order of a few."""
    example = Example(model=replace(MODEL, experts=experts, top_k=3), recipe=SGD)
    training, batch = trainer(framework, example), example.batches()[0]
    parameters = example.parameters() | {"moe.router.weight": np.zeros((MODEL.hidden, experts))}
    observed = training.step(training.place(parameters), batch)[1]
    wanted = np.where(batch["attention_mask"][..., None] > 0, np.arange(3), -1)
    assert np.array_equal(to_numpy(observed["routing/moe"]), wanted)


CHOICES = np.array([[0, 1], [0, 2], [1, 0], [-1, -1], [1, 0]])
ONE_PLACE = [[0, -1], [-1, 2], [1, -1], [-1, -1], [-1, -1]]  # expert 1 has token 2, whose first choice it is, not 0
TWO_PLACES = [[0, -1], [0, 2], [1, -1], [-1, -1], [1, -1]]
THREE_PLACES = [[0, 1], [0, 2], [1, 0], [-1, -1], [1, -1]]


@EVERY_FRAMEWORK
@pytest.mark.parametrize(
    ("number", "wanted"), [(1, ONE_PLACE), (2, TWO_PLACES), (3, THREE_PLACES), (4, CHOICES.tolist())]
)
def test_first_choices_then_second_ones_by_position(framework, number, wanted):
    """Every row has places of its own: the second row, in reverse, is served as if it were alone."""
    places = routing(framework, "admitted", np.stack([CHOICES, CHOICES[::-1]]), number, 3)
    assert places[0].tolist() == wanted
    assert np.array_equal(places[1], routing(framework, "admitted", CHOICES[None, ::-1].copy(), number, 3)[0])
    assert number > 1 or places[1].tolist() != wanted[::-1]


def test_places():
    """ceil(factor * S * top_k / experts)."""
    wanted = {(0.8, 7, 2, 5): 3, (1.0, 8, 2, 4): 4, (0.5, 8, 1, 4): 1, (2.0, 7, 3, 5): 9, (0.0, 7, 2, 5): None}
    for (factor, length, top_k, experts), number in wanted.items():
        assert places(replace(MODEL, capacity_factor=factor, top_k=top_k, experts=experts), length) == number


@EVERY_FRAMEWORK
def test_gates_by_hand(framework):
    scores, choices = np.array([[[0.5, 0.25, 0.125, 0.125]] * 3]), np.array([[[1, 3], [0, -1], [-1, -1]]])
    assert routing(framework, "gates", scores, choices, False).tolist() == [[[0.25, 0.125], [0.5, 0], [0, 0]]]
    normalized = routing(framework, "gates", scores, choices, True)
    assert relative_error(normalized, np.array([[[2 / 3, 1 / 3], [1, 0], [0, 0]]])) < 1e-15


LOGITS = np.log(np.array([[[1, 2, 5], [6, 1, 1]], [[4, 3, 1], [1, 1, 1]], [[1, 1, 1], [1, 1, 1]]]))
REAL = np.array([[1, 1], [1, 0], [0, 0]])
ASKED = np.array([[[0, 1, 1], [1, 1, 0]], [[1, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]])  # two choices of each


@EVERY_FRAMEWORK
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_balance_by_hand(framework, kind):
    """Three real tokens in two rows; the third row has none."""
    model = replace(MODEL, experts=3, top_k=2, scores=kind)
    scores = routing(framework, "scores", LOGITS, kind)
    weights = np.exp(LOGITS)  # softmax: of 8; sigmoid: w / (1 + w)
    shares = weights if kind == "softmax" else weights / (1 + weights)
    shares = shares / shares.sum(axis=-1, keepdims=True)
    whole = 3 * np.sum(np.array([2, 3, 1]) / 6 * (shares[0, 0] + shares[0, 1] + shares[1, 0]) / 3)
    first = 3 * np.sum(np.array([1, 2, 1]) / 4 * (shares[0, 0] + shares[0, 1]) / 2)
    second = 3 * np.sum(np.array([1, 1, 0]) / 2 * shares[1, 0])
    arrays = [array.astype(np.float64) for array in (ASKED, scores, REAL)]
    assert relative_error(routing(framework, "balance", *arrays, model), whole) < 1e-15
    by_row = replace(model, balance_scope="row")
    assert relative_error(routing(framework, "balance", *arrays, by_row), (first + second) / 2) < 1e-15
    even = [np.ones((1, 3, 3)) * 2 / 3, np.ones((1, 3, 3)) / 3, np.ones((1, 3))]
    assert relative_error(routing(framework, "balance", *even, by_row), np.array(1.0)) < 1e-15


@EVERY_FRAMEWORK
def test_router_z_by_hand(framework):
    wanted = (2 * math.log(8) ** 2 + math.log(8) ** 2) / 3
    assert relative_error(routing(framework, "router_z", LOGITS, REAL.astype(np.float64)), np.array(wanted)) < 1e-15


@EVERY_FRAMEWORK
@pytest.mark.parametrize("scope", ["batch", "row"])
def test_nobody_is_there(framework, scope):
    """All padding: the terms are zero, not 0 / 0."""
    nobody, scores = np.zeros((2, 3)), np.full((2, 3, 4), 0.25)
    model = replace(MODEL, balance_scope=scope)
    assert routing(framework, "balance", np.zeros((2, 3, 4)), scores, nobody, model) == 0
    assert routing(framework, "router_z", scores, nobody) == 0


def test_shapes():
    model = replace(MODEL, activation="swiglu", hidden=4, ffn=3, experts=5, shared_ffn=2, router_bias=True)
    assert shapes(model) == {
        "moe.router.weight": (4, 5), "moe.router.bias": (5,),
        "moe.experts.gate.weight": (5, 4, 3), "moe.experts.gate.bias": (5, 3),
        "moe.experts.up.weight": (5, 4, 3), "moe.experts.up.bias": (5, 3),
        "moe.experts.down.weight": (5, 3, 4), "moe.experts.down.bias": (5, 4),
        "moe.shared.gate.weight": (4, 2), "moe.shared.gate.bias": (2,),
        "moe.shared.up.weight": (4, 2), "moe.shared.up.bias": (2,),
        "moe.shared.down.weight": (2, 4), "moe.shared.down.bias": (4,),
    }  # fmt: skip
    names = shapes(EXAMPLES["model, moe every other"].model)
    assert [any(name.startswith(f"layers.{i}.moe.") for name in names) for i in range(4)] == [False, True, False, True]
    assert [f"layers.{i}.feedforward.gate_up.weight" in names for i in range(4)] == [True, False, True, False]
    assert not any(".moe." in name for name in shapes(replace(EXAMPLES["layer, moe"].model, moe_every=2)))


def test_drawn_values():
    """The fan in of stacked experts is that of one; the bias of a router is small, and nothing is zero."""
    drawn = draw({"moe.experts.up.weight": (7, 400, 50), "moe.router.bias": (64,)}, 0)
    assert abs(drawn["moe.experts.up.weight"].std() * 20 - 1) < 0.02
    bias = np.abs(drawn["moe.router.bias"])
    assert 0.002 <= bias.min() < bias.max() <= 0.01
    assert all(np.array_equal(value, value.astype(np.float32)) for value in drawn.values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"top_k": 6}, "1 <= top_k <= experts and moe_every >= 1, not top_k 6, experts 5"),
        ({"top_k": 0}, "not top_k 0"),
        ({"experts": 0}, "experts 0"),
        ({"moe_every": 0}, "moe_every 0"),
        ({"scores": "relu"}, "softmax or sigmoid, not 'relu'"),
        ({"balance_scope": "world"}, "batch or row, not 'world'"),
        ({"bias_update_rate": 0.1}, "set router_bias too"),
    ],
)
def test_impossible_mixtures_are_refused(changes, reason):
    with pytest.raises(ValueError, match=reason):
        shapes(replace(MODEL, **changes))
