"""The model that every peer divides, on one device: two linear layers, in plain JAX and in plain torch."""

import numpy as np

rng = np.random.default_rng(0)
PARAMETERS = {"up": rng.normal(size=(12, 16)), "down": rng.normal(size=(16, 12))}
BATCH = {"x": rng.normal(size=(16, 12))}


def in_torch(parameters, batch):
    import torch

    y = torch.tanh(batch["x"] @ parameters["up"]) @ parameters["down"]
    return (y**2).mean(), {"y": y}


def in_jax(parameters, batch):
    import jax.numpy as jnp

    y = jnp.tanh(batch["x"] @ parameters["up"]) @ parameters["down"]
    return jnp.mean(y**2), {"y": y}


def module(parameters):
    """The same as a torch module with the given weights; nn.Linear keeps them as [out, in]."""
    from torch import nn

    made = nn.Sequential(nn.Linear(12, 16, bias=False), nn.Tanh(), nn.Linear(16, 12, bias=False))
    made = made.to(parameters["up"].dtype)
    for layer, name in ((made[0], "up"), (made[2], "down")):
        layer.weight = nn.Parameter(parameters[name].T.detach().clone().contiguous())
    return made
