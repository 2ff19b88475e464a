"""Modules of Flax NNX, trees and losses, as people write them."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

rng = np.random.default_rng(0)
ROWS, FEATURES, HIDDEN, WORDS = 12, 6, 10, 7
BATCH = {"x": rng.normal(size=(ROWS, FEATURES)), "target": rng.normal(size=(ROWS, FEATURES))}
TOKENS = {"tokens": rng.integers(0, WORDS, size=(ROWS, 5)), "labels": rng.integers(0, WORDS, size=(ROWS, 5))}
ADAMW = partial(optax.adamw, 0.05, eps=1e-3, weight_decay=0.1)
SGD = partial(optax.sgd, 0.1, momentum=0.5)


class Layer(NamedTuple):
    w: np.ndarray
    b: np.ndarray


TREE = {
    "layers": [
        Layer(rng.normal(size=(FEATURES, HIDDEN)), rng.normal(size=HIDDEN)),
        Layer(rng.normal(size=(HIDDEN, FEATURES)), rng.normal(size=FEATURES)),
    ],
    "scale": (rng.normal(size=FEATURES),),
}


def tree_loss(tree, batch):
    x = batch["x"]
    for layer in tree["layers"]:
        x = jnp.tanh(x @ layer.w + layer.b)
    y = x * tree["scale"][0]
    return jnp.mean((y - batch["target"]) ** 2), {"y": y}


class Block(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(FEATURES, HIDDEN, rngs=rngs), nnx.Linear(HIDDEN, FEATURES, rngs=rngs)])
        self.rngs = rngs

    def __call__(self, x):
        return self.layers[1](jnp.tanh(self.layers[0](x)))


class Normed(nnx.Module):
    """Running statistics are variables that are no parameters; dropout does nothing in eval mode."""

    def __init__(self, rngs, deterministic=True):
        self.up, self.norm = nnx.Linear(FEATURES, HIDDEN, rngs=rngs), nnx.BatchNorm(HIDDEN, rngs=rngs)
        self.down = nnx.Linear(HIDDEN, FEATURES, use_bias=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=deterministic, rngs=rngs)

    def __call__(self, x):
        return self.down(self.dropout(jnp.tanh(self.norm(self.up(x)))))


class Tied(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Param(rngs.params.normal((WORDS, FEATURES)))
        self.head = self.embed

    def __call__(self, tokens):
        return jnp.tanh(self.embed[...][tokens]) @ self.head[...].T


def block():
    return Block(nnx.Rngs(0))


def dropping():
    return Normed(nnx.Rngs(0), deterministic=False)


def loss_of(model, batch):
    y = model(batch["x"])
    return jnp.mean((y - batch["target"]) ** 2), {"y": y}


def loss_of_words(model, batch):
    y = model(batch["tokens"])
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(y, batch["labels"])), {"y": y}


def predictions(model, batch):
    return {"y": model(batch["x"])}
