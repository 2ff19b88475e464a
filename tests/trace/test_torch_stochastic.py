"""A torch step in stochastic arithmetic: near the step, members apart, and exact where nothing rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from conformance.trace.stochastic import Stochastic
from conformance.trace.torch_stochastic import StochasticStep

X = np.random.default_rng(0).normal(size=(6, 8))
WHOLE = np.random.default_rng(1).integers(-4, 5, (6, 8)).astype(float)


def norms(x: torch.Tensor) -> torch.Tensor:
    centred = F.layer_norm(x, (8,)) + F.rms_norm(x, (8,)) + x.mean(0, keepdim=True)
    return centred.norm() + x.var(1).sum() + x.std() + (1 + x[0] / 8).prod()


def classes(x: torch.Tensor) -> torch.Tensor:
    targets = torch.tensor([0, 3, 5, 1, 2, 2])
    return F.cross_entropy(F.gelu(x), targets) + torch.logsumexp(x, 1).mean() + F.mse_loss(x.softmax(0), x)


def products(x: torch.Tensor) -> torch.Tensor:
    heads = x.reshape(2, 3, 8)
    attended = F.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
    return attended.sum() + (x @ x[0]).sum() + x[0] @ x[1] + F.linear(x, x, x[:, 0]).pow(2).mean()


def running(x: torch.Tensor) -> torch.Tensor:
    return x.cumsum(0).pow(2).sum() + x[0].cumprod(0)[-1]


def places(x: torch.Tensor) -> torch.Tensor:
    tokens = torch.tensor([0, 2, 2, 5, 2])
    gathered = F.embedding(tokens, x) + x[tokens]
    added = torch.zeros_like(x).index_add(0, tokens, gathered) ** 2
    return added.sum() + torch.zeros_like(x).scatter_add(0, tokens[:, None].expand(5, 8), gathered).norm()


def images(x: torch.Tensor) -> torch.Tensor:
    y = F.conv2d(x.reshape(1, 2, 6, 4), x[:2].reshape(2, 2, 2, 2), padding=1)
    return y.pow(2).sum() + F.batch_norm(y, None, None, training=True).sum()


FUNCTIONS = (norms, classes, products, running, places, images)


def differentiated(function: Any) -> Any:
    def step(state: Any, batch: Any) -> Any:
        x = torch.tensor(batch["x"], requires_grad=True)
        loss = function(x)
        [gradient] = torch.autograd.grad(loss, [x])
        return state, {"loss": loss.detach().numpy(), "gradient": gradient.numpy()}

    return step


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_members_are_near_the_step_and_apart_from_each_other(function: Any) -> None:
    step = differentiated(function)
    _, true = step((), {"x": X})
    members = [seen for _, seen in StochasticStep(step)([()] * 4, [{"x": X}] * 4, Stochastic(0))]
    for name, value in true.items():
        drawn = np.stack([member[name] for member in members])
        np.testing.assert_allclose(drawn, np.broadcast_to(value, drawn.shape), rtol=1e-12, atol=1e-13)
    assert len({tuple(value.tobytes() for value in member.values()) for member in members}) > 1


def test_what_is_exact_is_the_step_bit_for_bit() -> None:
    step = differentiated(lambda x: ((x @ x.T).relu() ** 2).sum() + x.cumsum(1).sum())
    _, true = step((), {"x": WHOLE})
    for _, seen in StochasticStep(step)([()] * 3, [{"x": WHOLE}] * 3, Stochastic(0)):
        assert all(np.array_equal(seen[name], true[name]) for name in true)
