"""Outputs that are trees, and programs that are hollow; run as a script, it prints verdicts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from answering import answer_for
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

rng = np.random.default_rng(0)
PARAMETERS = {"up": rng.normal(size=(6, 8)), "down": rng.normal(size=(8, 4))}
BATCH = {"x": rng.normal(size=(8, 6))}


def reference(parameters, batch):
    hidden = jnp.tanh(batch["x"] @ parameters["up"])
    y = hidden @ parameters["down"]
    return jnp.mean(y**2), {"y": y, "block": {"hidden": hidden, "halves": [y[:, :2], y[:, 2:]]}}


DIFFERENTIATED = jax.jit(jax.value_and_grad(reference, has_aux=True))


def seen(parameters, batch):
    (loss, outputs), gradients = DIFFERENTIATED(parameters, batch)
    return {"loss": loss, "outputs": outputs, "gradients": gradients}


def rows(parameters, batch, mesh):
    return seen(parameters, jax.device_put(batch, NamedSharding(mesh, P("data"))))


def one_device(parameters, batch, mesh):
    """A planted fault: what is placed on the mesh is the results."""
    returned = jax.device_put(seen(parameters, batch), NamedSharding(mesh, P()))
    return returned | {"outputs": jax.device_put(returned["outputs"], NamedSharding(mesh, P("data")))}


def one_device_in_shards(parameters, batch, mesh):
    """The same, with gradients that are shards at last."""
    returned = one_device(parameters, batch, mesh)
    return returned | {"gradients": jax.device_put(returned["gradients"], NamedSharding(mesh, P("data")))}


def still():
    return optax.sgd(0.0)


class Still:
    def __init__(self, parameters, mesh):
        self.mesh, self.model = mesh, jax.device_put(parameters, NamedSharding(mesh, P()))
        self.optimizer = still().init(self.model)

    def step(self, batch):
        return rows(self.model, batch, self.mesh)


def masked_reference(parameters, batch):
    y = jnp.where(batch["x"][:, :4] > 0, jnp.tanh(batch["x"] @ parameters["up"]) @ parameters["down"], -jnp.inf)
    return -jnp.mean(jax.nn.log_softmax(jnp.where(jnp.isinf(y), 0.0, y))), {"y": y}


def masked(parameters, batch, mesh, wrong=False):
    """What a mask hides is minus infinity in what is handed over."""
    batch = jax.device_put(batch, NamedSharding(mesh, P("data")))
    (loss, out), gradients = jax.jit(jax.value_and_grad(masked_reference, has_aux=True))(parameters, batch)
    shown = out["y"].at[0].set(jnp.where(jnp.isinf(out["y"][0]), 0.0, out["y"][0]))
    return {"loss": loss, "outputs/y": shown if wrong else out["y"], "gradients": gradients}


def unmasked(parameters, batch, mesh):
    """A planted fault: one row is not hidden."""
    return masked(parameters, batch, mesh, wrong=True)


def first_alone(parameters, batch, mesh):
    """A planted fault: the first device does it all, and a sum over zeros hands it to the other."""

    def local(p, b):
        made = jax.eval_shape(seen, p, b)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), made)
        first = jax.lax.axis_index("data") == 0
        return jax.lax.psum(jax.lax.cond(first, seen, lambda p, b: nothing, p, b), "data")

    run = jax.shard_map(local, mesh=mesh, in_specs=(P(), P()), out_specs=P(), check_vma=False)
    return jax.jit(run)(parameters, batch)


def adam():
    return optax.adam(1e-2, eps=1e-3)


class Whole:
    """A planted fault: nothing is divided; the counter of Adam lies on the first device, as optax makes it."""

    def __init__(self, parameters, mesh):
        self.model = jax.device_put(parameters, NamedSharding(mesh, P()))
        self.optimizer = adam().init(self.model)
        self.train = jax.jit(self.trained)

    def trained(self, model, optimizer, batch):
        returned = seen(model, batch)
        updates, optimizer = adam().update(returned["gradients"], optimizer, model)
        return optax.apply_updates(model, updates), optimizer, returned

    def step(self, batch):
        self.model, self.optimizer, returned = self.train(self.model, self.optimizer, batch)
        return returned


def scheduled():
    """optax computes its schedules in float32."""
    return optax.sgd(optax.exponential_decay(0.1, 2, 0.9))


class Scheduled:
    wrong = 0.0

    def __init__(self, parameters, mesh):
        self.mesh, everywhere = mesh, NamedSharding(mesh, P())
        self.model = jax.device_put(parameters, everywhere)
        self.optimizer = jax.device_put(scheduled().init(self.model), everywhere)
        self.train = jax.jit(self.trained)

    def trained(self, model, optimizer, batch):
        returned = seen(model, batch)
        returned["gradients"]["up"] *= 1 + self.wrong
        updates, optimizer = scheduled().update(returned["gradients"], optimizer, model)
        return optax.apply_updates(model, updates), optimizer, returned

    def step(self, batch):
        batch = jax.device_put(batch, NamedSharding(self.mesh, P("data")))
        self.model, self.optimizer, returned = self.train(self.model, self.optimizer, batch)
        return returned


class Rescaled(Scheduled):
    """A planted fault, smaller than what float32 rounds off."""

    wrong = 3e-8


KINDS = {
    "schedule": {"candidate": Scheduled, "optimizer": scheduled},
    "schedule and wrong": {"candidate": Rescaled, "optimizer": scheduled},
    "masked": {"candidate": masked, "reference": masked_reference},
    "masked in bfloat16": {"candidate": masked, "reference": masked_reference, "dtype": "bfloat16"},
    "unmasked": {"candidate": unmasked, "reference": masked_reference},
    "first alone": {"candidate": first_alone},
    "whole with Adam": {"candidate": Whole, "optimizer": adam},
    "nested outputs": {"candidate": rows},
    "nested outputs in bfloat16": {"candidate": rows, "dtype": "bfloat16"},
    "one device": {"candidate": one_device},
    "one device in shards": {"candidate": one_device_in_shards},
    "learns nothing": {"candidate": Still, "optimizer": still},
}


if __name__ == "__main__":
    answer_for(KINDS, reference=reference, parameters=PARAMETERS, batch=BATCH, mesh="data=2")
