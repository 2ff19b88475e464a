"""Muon against its own law in terms of singular values, and against torch.optim and optax."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from conformance.contract.contract import Recipe
from reference.parameters import generator
from tests.reference.table import FRAMEWORKS, relative_error, to_numpy

jnp, torch = pytest.importorskip("jax.numpy"), pytest.importorskip("torch")
EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)
SHAPES = {"up.weight": (6, 10), "down.weight": (10, 6), "square.weight": (7, 7)}
RECIPE = Recipe(optimizer="muon", learning_rate=0.25, momentum=0.75, weight_decay=0.125)


def normal(name: str, *shape: int) -> np.ndarray:
    return generator(0, name).normal(size=shape)


def tensor(framework: str, array):
    return jnp.asarray(array) if framework == "jax" else torch.as_tensor(np.array(array))


def by_singular_values(u: np.ndarray) -> np.ndarray:
    """U f(S) V', f being the polynomial of the paper, five times."""
    left, s, right = np.linalg.svd(u / (np.linalg.norm(u) + 1e-7), full_matrices=False)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return left * s @ right


@EVERY_FRAMEWORK
@pytest.mark.parametrize("shape", SHAPES.values(), ids=str)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_newton_schulz_acts_on_singular_values(framework, shape, scale):
    u = scale * normal("u", *shape)
    orthogonal = to_numpy(import_module(f"reference.{framework}.muon").newton_schulz(tensor(framework, u)))
    assert relative_error(orthogonal, by_singular_values(u)) < 1e-12
    left, _, right = np.linalg.svd(u, full_matrices=False)
    core = left.T @ orthogonal @ right.T
    assert np.all((np.diag(core) > 0.6) & (np.diag(core) < 1.25))
    assert np.max(np.abs(core - np.diag(np.diag(core)))) < 1e-12


def ours(framework: str, parameters: dict, gradients: list[dict], recipe: Recipe = RECIPE) -> tuple[dict, dict]:
    optimizers = import_module(f"reference.{framework}.optimizers")
    p = {name: tensor(framework, value) for name, value in parameters.items()}
    state = optimizers.slots(p, recipe)
    for number, gradient_set in enumerate(gradients, start=1):
        g = {name: tensor(framework, value) for name, value in gradient_set.items()}
        p, state = optimizers.update(p, g, state, tensor(framework, number), recipe)
    return {name: to_numpy(value) for name, value in p.items()}, state


def drawn(shapes: dict, steps: int) -> tuple[dict, list[dict]]:
    parameters = {name: normal(name, *shape) for name, shape in shapes.items()}
    return parameters, [
        {name: normal(f"{name}{step}", *shape) for name, shape in shapes.items()} for step in range(steps)
    ]


@EVERY_FRAMEWORK
def test_four_updates_by_hand(framework):
    parameters, gradients = drawn(SHAPES, 4)
    updated, state = ours(framework, parameters, gradients)
    assert list(state) == ["momentum"]
    for name, p in parameters.items():
        v = np.zeros_like(p)
        for g in gradients:
            v = 0.75 * v + g[name]
            o = by_singular_values(g[name] + 0.75 * v)
            p = p - 0.25 * (np.sqrt(max(1, p.shape[1] / p.shape[0])) * o + 0.125 * p)
        assert relative_error(updated[name], p) < 1e-12, name
        assert relative_error(to_numpy(state["momentum"][name]), v) < 1e-15, name


@EVERY_FRAMEWORK
def test_torch_optim_agrees_as_far_as_bfloat16_goes(framework):
    """It keeps an average instead of a sum, which orthogonalisation forgets, and works on [out, in] in bfloat16."""
    parameters, gradients = drawn(SHAPES, 4)
    updated, _ = ours(framework, parameters, gradients)
    p = {name: torch.tensor(value.T.copy(), requires_grad=True) for name, value in parameters.items()}
    optimizer = torch.optim.Muon(p.values(), lr=0.25, weight_decay=0.125, momentum=0.75, nesterov=True)
    for step in gradients:
        for name, value in step.items():
            p[name].grad = torch.tensor(value.T.copy())
        optimizer.step()
    for name, value in parameters.items():
        assert relative_error(updated[name] - value, to_numpy(p[name].detach()).T - value) < 0.03, name


@EVERY_FRAMEWORK
def test_optax_agrees_on_the_first_update(framework):
    """Later on its momentum is corrected for its bias, which ours is not."""
    optax = pytest.importorskip("optax")
    parameters, gradients = drawn(SHAPES, 1)
    updated, _ = ours(framework, parameters, gradients)
    optimizer = optax.contrib.muon(0.25, beta=0.75, weight_decay=0.125)
    p = {name: jnp.asarray(value) for name, value in parameters.items()}
    updates, _ = optimizer.update(
        {name: jnp.asarray(value) for name, value in gradients[0].items()}, optimizer.init(p), p
    )
    for name, value in parameters.items():
        assert relative_error(updated[name] - value, to_numpy(updates[name])) < 1e-6, name


@EVERY_FRAMEWORK
def test_all_others_follow_sgd(framework):
    shapes = {"embedding.weight": (9, 5), "head.weight": (5, 9), "up.bias": (6,), "norm.scale": (5,)}
    parameters, gradients = drawn(shapes, 3)
    updated, _ = ours(framework, parameters, gradients)
    for name, p in parameters.items():
        v = np.zeros_like(p)
        for g in gradients:
            v = 0.75 * v + g[name] + 0.125 * p
            p = p - 0.25 * v
        assert relative_error(updated[name], p) < 1e-14, name


@EVERY_FRAMEWORK
def test_stacked_experts_are_orthogonal_one_by_one(framework):
    """A stack of matrices moves as its matrices do by themselves; stacked biases follow SGD, two dims or not."""
    shapes = {"experts.up.weight": (3, 6, 10), "experts.up.bias": (3, 10)}
    parameters, gradients = drawn(shapes, 3)
    updated, state = ours(framework, parameters, gradients)
    for e in range(3):
        p, *alone = (
            {name.removeprefix("experts."): value[e] for name, value in arrays.items()}
            for arrays in (parameters, *gradients)
        )
        wanted, slots = ours(framework, p, alone)
        for name, value in wanted.items():
            assert relative_error(updated[f"experts.{name}"][e], value) < 1e-13, name
            slot = to_numpy(state["momentum"][f"experts.{name}"])[e]
            assert relative_error(slot, to_numpy(slots["momentum"][name])) < 1e-15, name


@EVERY_FRAMEWORK
def test_a_router_bias_stays(framework):
    """No optimizer moves it and no decay shrinks it, whatever its gradient."""
    parameters, gradients = drawn({"moe.router.bias": (5,), "up.bias": (5,)}, 2)
    for optimizer in ("sgd", "adamw", "muon"):
        updated, state = ours(framework, parameters, gradients, replace(RECIPE, optimizer=optimizer))
        assert np.array_equal(updated["moe.router.bias"], parameters["moe.router.bias"])
        assert not np.array_equal(updated["up.bias"], parameters["up.bias"])
        assert all(np.all(to_numpy(values["moe.router.bias"]) == 0) for values in state.values())
