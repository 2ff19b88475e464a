"""Trainers in JAX that count their steps or draw numbers, each in a way of its own; parts of `keeping_jax`."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

rng = np.random.default_rng(0)
PARAMETERS = {"up": rng.normal(size=(6, 8)), "down": rng.normal(size=(8, 4))}
BATCH = {"x": rng.normal(size=(8, 6))}
SPECS = {"up": P(None, "tensor"), "down": P("tensor")}


def loss_of(parameters, batch):
    y = jnp.tanh(batch["x"] @ parameters["up"]) @ parameters["down"]
    return jnp.mean(y**2), {"y": y}


DIFFERENTIATED = jax.jit(jax.value_and_grad(loss_of, has_aux=True))


def seen(parameters, batch):
    (loss, outputs), gradients = DIFFERENTIATED(parameters, batch)
    return {"loss": loss, "outputs": outputs, "gradients": gradients}


def sharded(parameters, mesh):
    if mesh is None:
        return parameters
    return {name: jax.device_put(x, NamedSharding(mesh, SPECS[name])) for name, x in parameters.items()}


class Decayed:
    """Descends by a rate that falls from step to step; `rate` counts them. The reference is the same on one device."""

    def __init__(self, parameters, mesh):
        self.model, self.steps = sharded(parameters, mesh), 0

    def rate(self):
        self.steps += 1
        return 0.1 / self.steps

    def step(self, batch):
        noted, rate = seen(self.model, batch), self.rate()
        self.model = jax.tree.map(lambda x, g: x - rate * g, self.model, noted["gradients"])
        return noted


class Forgetful(Decayed):
    """A planted fault: it counts one step only."""

    def rate(self):
        self.steps = 1
        return 0.1 / self.steps


class DecayedByDict(Decayed):
    def __init__(self, parameters, mesh):
        super().__init__(parameters, mesh)
        self.counts = {"steps": 0, 2: "any key"}

    def rate(self):
        self.counts["steps"] += 1
        return 0.1 / self.counts["steps"]


class DecayedByIterator(Decayed):
    def __init__(self, parameters, mesh):
        super().__init__(parameters, mesh)
        self.numbers = itertools.count(1)

    def rate(self):
        return 0.1 / next(self.numbers)


class DecayedByClosure(Decayed):
    def __init__(self, parameters, mesh):
        super().__init__(parameters, mesh)
        steps = 0

        def rate():
            nonlocal steps
            steps += 1
            return 0.1 / steps

        self.rate = rate


class DecayedBySlots:
    __slots__ = ("model", "steps")
    __init__, rate, step = Decayed.__init__, Decayed.rate, Decayed.step


class Keyed(Decayed):
    """The key of a step comes from a Python counter."""

    def step(self, batch):
        self.steps += 1
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(3), self.steps), batch["x"].shape, batch["x"].dtype)
        noted = seen(self.model, {"x": batch["x"] + 0.1 * noise})
        self.model = jax.tree.map(lambda x, g: x - 0.1 * g, self.model, noted["gradients"])
        return noted


class Drawing(Decayed):
    """A generator of numpy draws noise."""

    def __init__(self, parameters, mesh):
        super().__init__(parameters, mesh)
        self.rng = np.random.default_rng(7)

    def step(self, batch):
        noise = jnp.asarray(self.rng.normal(size=batch["x"].shape), batch["x"].dtype)
        noted = seen(self.model, {"x": batch["x"] + 0.1 * noise})
        self.model = jax.tree.map(lambda x, g: x - 0.1 * g, self.model, noted["gradients"])
        return noted


class Unsteady(Decayed):
    """A planted fault: the loss has other bits in each run."""

    def step(self, batch):
        noted = super().step(batch)
        return noted | {"loss": noted["loss"] * (1 + 1e-12 * np.random.default_rng().random())}
