"""LAMB against optax, and what its ratio of norms promises."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from conformance.contract.contract import Recipe
from tests.reference.table import FRAMEWORKS, relative_error, to_numpy
from tests.reference.test_muon import drawn, ours

jnp = pytest.importorskip("jax.numpy")
EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)
SHAPES = {"up.weight": (6, 10), "up.bias": (5,), "norm.scale": (7,)}
RECIPE = Recipe(optimizer="lamb", learning_rate=0.25, weight_decay=0.125)


@EVERY_FRAMEWORK
@pytest.mark.parametrize("decays", ["all", "weights"])
def test_optax_agrees(framework, decays):
    """Four updates; where biases are not decayed, they follow the same rule with a decay of zero."""
    optax = pytest.importorskip("optax")
    recipe = replace(RECIPE, decays=decays)
    parameters, gradients = drawn(SHAPES, 4)
    updated, state = ours(framework, parameters, gradients, recipe)
    mask = {name: decays == "all" or name.endswith(".weight") for name in SHAPES}
    first, second = recipe.betas
    optimizer = optax.lamb(0.25, first, second, eps=recipe.epsilon, weight_decay=0.125, mask=mask)
    p = {name: jnp.asarray(value) for name, value in parameters.items()}
    slots = optimizer.init(p)
    for step in gradients:
        updates, slots = optimizer.update({name: jnp.asarray(value) for name, value in step.items()}, slots, p)
        p = optax.apply_updates(p, updates)
    assert list(state) == ["first_moment", "second_moment"]
    for name in SHAPES:
        assert relative_error(updated[name], to_numpy(p[name])) < 1e-13, name


@EVERY_FRAMEWORK
def test_the_first_step_is_as_long_as_the_parameter(framework):
    """|p - p'| = rate |p| for every tensor, whatever its gradient; so no part of one will do."""
    parameters, gradients = drawn(SHAPES, 1)
    updated, _ = ours(framework, parameters, gradients, RECIPE)
    for name, p in parameters.items():
        assert np.linalg.norm(updated[name] - p) == pytest.approx(0.25 * np.linalg.norm(p), rel=1e-13), name


@EVERY_FRAMEWORK
def test_where_a_norm_is_zero_the_ratio_is_one(framework):
    ratio = import_module(f"reference.{framework}.lamb").trust_ratio
    tensor = jnp.asarray if framework == "jax" else import_module("torch").as_tensor
    zero, some = tensor(np.zeros(3)), tensor(np.array([3.0, 0.0, 4.0]))
    assert [float(ratio(*pair)) for pair in ((zero, some), (some, zero), (some, 2 * some))] == [1.0, 1.0, 0.5]
