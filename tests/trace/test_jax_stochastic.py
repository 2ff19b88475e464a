"""A JAX step in stochastic arithmetic: bit for bit where nothing rounds, near where something does, members apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from conformance.trace.jax_stochastic import StochasticStep
from conformance.trace.stochastic import Stochastic

X = np.random.default_rng(0).normal(size=(6, 8))
WHOLE = np.random.default_rng(1).integers(-4, 5, (6, 8)).astype(float)


def norms(x: Any) -> Any:
    return jnp.linalg.norm(x) + jnp.var(x, axis=1).sum() + jnp.prod(1 + x[0] / 8)


def classes(x: Any) -> Any:
    return jax.nn.logsumexp(x, axis=1).mean() - jax.nn.log_softmax(x @ x.T)[:, 0].sum() + jnp.max(jax.nn.gelu(x))


def running(x: Any) -> Any:
    return (jnp.cumsum(x, axis=0) ** 2).sum() + lax.associative_scan(jnp.add, x).mean() + jnp.cumprod(x[0])[-1]


def recurrence(x: Any) -> Any:
    last, states = lax.scan(lambda h, row: (jnp.tanh(h + row), h * row), jnp.zeros(8), x, reverse=True)
    return last.sum() + states.sum()


def loops(x: Any) -> Any:
    grown = lax.while_loop(lambda s: jnp.abs(s[1]).max() < 30, lambda s: (s[0] + 1, s[1] * 1.5), (0, x))
    return lax.cond(grown[0] % 2 == 0, jnp.sin, jnp.cos, lax.stop_gradient(grown[1])).sum() + (x**3).sum()


def places(x: Any) -> Any:
    tokens = jnp.array([0, 2, 2, 5, 2])
    padded = jnp.pad(x[tokens], 1)[:, ::-1]
    return (jnp.zeros((8, 10)).at[tokens].add(padded[:5]) ** 2).sum() + jnp.sort(x, axis=0)[2].prod()


def images(x: Any) -> Any:
    kernel = jnp.reshape(x[:2, :], (2, 2, 2, 2))
    y = lax.conv_general_dilated(x.reshape(1, 2, 6, 4), kernel, (1, 1), "SAME")
    return (y**2).sum() + lax.reduce_window(x, 0.0, lax.add, (2, 2), (1, 1), "VALID").prod()


def dropped(x: Any) -> Any:
    kept = jax.random.bernoulli(jax.random.fold_in(jax.random.key(3), 1), 0.5, x.shape)
    return jnp.where(kept, x, 0).sum()


FUNCTIONS = (norms, classes, running, recurrence, loops, places, images, dropped)


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def differentiated(function: Any) -> Any:
    both = jax.jit(lambda x: jax.value_and_grad(function)(x))

    def step(state: Any, batch: Any) -> Any:
        loss, gradient = both(batch["x"])
        return state, {"loss": loss, "gradient": gradient}

    return step


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_members_are_near_the_program_and_apart_from_each_other(function: Any) -> None:
    step = differentiated(function)
    _, true = step((), {"x": X})
    members = [seen for _, seen in StochasticStep(step)([()] * 4, [{"x": X}] * 4, Stochastic(0))]
    for name, value in true.items():
        drawn = np.stack([np.asarray(member[name]) for member in members])
        np.testing.assert_allclose(drawn, np.broadcast_to(value, drawn.shape), rtol=1e-12, atol=1e-13)
    assert len({tuple(np.asarray(value).tobytes() for value in member.values()) for member in members}) > 1


def test_what_is_exact_is_the_program_bit_for_bit() -> None:
    step = differentiated(lambda x: (jnp.maximum(x @ x.T, 0) ** 2).sum() + jnp.cumsum(x, 1).mean(where=x > 0) * 0)
    _, true = step((), {"x": WHOLE})
    for _, seen in StochasticStep(step)([()] * 3, [{"x": WHOLE}] * 3, Stochastic(0)):
        assert all(np.array_equal(seen[name], true[name]) for name in true)


def test_draws_are_those_of_the_program() -> None:
    step = differentiated(dropped)
    _, true = step((), {"x": X})
    [(_, seen)] = StochasticStep(step)([()], [{"x": X}], Stochastic(0))
    assert np.array_equal(seen["gradient"], true["gradient"])


def test_members_with_inputs_of_their_own_take_their_own_branches() -> None:
    step = differentiated(loops)
    batches = [{"x": X * factor} for factor in (1.0, 3.0, 0.2)]
    for batch, (_, seen) in zip(batches, StochasticStep(step)([()] * 3, batches, Stochastic(0)), strict=True):
        _, true = step((), batch)
        np.testing.assert_allclose(seen["loss"], true["loss"], rtol=1e-12)
