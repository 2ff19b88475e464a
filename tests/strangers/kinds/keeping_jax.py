"""Trainers in JAX by what they keep besides parameters, right and broken ones; run as a script, it prints verdicts.

`Kept` trains a tree over one axis; every other class keeps something in another way.
"""

from collections import deque
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import optax
from answering import answer_for
from counting_jax import (
    BATCH,
    PARAMETERS,
    Decayed,
    DecayedByClosure,
    DecayedByDict,
    DecayedByIterator,
    DecayedBySlots,
    Drawing,
    Forgetful,
    Keyed,
    Unsteady,
    loss_of,
    seen,
    sharded,
)
from flax import nnx, struct
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

ADAM = partial(optax.adam, 1e-2, eps=1e-3)


class Kept:
    """Adam; `keep` is what is kept of a step."""

    def __init__(self, parameters, mesh):
        self.tx = ADAM()
        self.model = sharded(parameters, mesh)
        self.optimizer = self.tx.init(self.model)
        self.apply = jax.jit(self.applied)

    def applied(self, parameters, slots, gradients):
        updates, slots = self.tx.update(gradients, slots, parameters)
        return optax.apply_updates(parameters, updates), slots

    def step(self, batch):
        noted = seen(self.model, batch)
        self.model, self.optimizer = self.apply(self.model, self.optimizer, noted["gradients"])
        self.keep(noted)
        return noted

    def keep(self, noted):
        pass


class Last(Kept):
    last = None

    def __init__(self, parameters, mesh):
        super().__init__(parameters, mesh)
        self.last = None

    def keep(self, noted):
        self.last = noted["loss"]


class Losses(Kept):
    def __init__(self, parameters, mesh):
        super().__init__(parameters, mesh)
        self.losses, self.window, self.log = [], deque(maxlen=2), {}

    def keep(self, noted):
        self.losses.append(noted["loss"])
        self.window.append(noted["loss"])
        self.log[len(self.losses) if len(self.losses) < 3 else "last"] = jnp.mean(jnp.stack(list(self.window)))


class Later(Kept):
    """An attribute from the second step on."""

    def keep(self, noted):
        if hasattr(self, "first"):
            self.second = noted["loss"] - self.first
        self.first = noted["loss"]


class Deletes(Kept):
    def __init__(self, parameters, mesh):
        super().__init__(parameters, mesh)
        self.fresh = jnp.ones(())

    def keep(self, noted):
        if hasattr(self, "fresh"):
            del self.fresh


class Donates(Kept):
    """What it keeps of the step before is donated."""

    def __init__(self, parameters, mesh):
        super().__init__(parameters, mesh)
        self.before = None
        self.apply = jax.jit(self.applied, donate_argnums=(0, 1))

    def step(self, batch):
        self.before = self.model
        return super().step(batch)


class Shared(Kept):
    """A planted hazard: all trainers of the class write in one list."""

    losses = []  # noqa: RUF012

    def keep(self, noted):
        self.losses.append(noted["loss"])
        self.mean = sum(self.losses[-2:])


class InNamespace(Kept):
    model = property(lambda self: self.state.model)
    optimizer = property(lambda self: self.state.optimizer)

    def __init__(self, parameters, mesh):
        self.tx, model = ADAM(), sharded(parameters, mesh)
        self.state = SimpleNamespace(model=model, optimizer=self.tx.init(model))

    def step(self, batch):
        noted = seen(self.model, batch)
        self.state.model, slots = self.applied(self.model, self.optimizer, noted["gradients"])
        self.remember(slots)
        return noted

    def remember(self, slots):
        self.state.optimizer = slots


class ForgetsInNamespace(InNamespace):
    """A planted fault: the optimizer begins anew in every step."""

    def remember(self, slots):
        pass


class Whole(InNamespace):
    """A planted fault: every rank computes everything."""

    def __init__(self, parameters, mesh):
        super().__init__(parameters, mesh)
        self.state = jax.device_put(vars(self.state), NamedSharding(mesh, P()))
        self.state = SimpleNamespace(**self.state)


class InClosure:
    """Nobody sees what it keeps."""

    def __init__(self, parameters, mesh):
        tx, model = ADAM(), sharded(parameters, mesh)
        slots = tx.init(model)

        def step(batch):
            nonlocal model, slots
            noted = seen(model, batch)
            updates, slots = tx.update(noted["gradients"], slots, model)
            model = optax.apply_updates(model, updates)
            return noted

        def collect():
            moments = {f"optimizer/mu/{name}": x for name, x in slots[0].mu.items()}
            moments |= {f"optimizer/nu/{name}": x for name, x in slots[0].nu.items()}
            return {"parameters": model, "optimizer/count": slots[0].count} | moments

        self.step, self.collect = step, collect


@struct.dataclass
class TrainState:
    step: int
    params: dict
    opt_state: tuple
    tx: optax.GradientTransformation = struct.field(pytree_node=False)


class InTrainState(Kept):
    """As `flax.training.train_state` has it: the number of the step is Python's in the beginning."""

    model = property(lambda self: self.state.params)
    optimizer = property(lambda self: self.state.opt_state)

    def __init__(self, parameters, mesh):
        tx, params = ADAM(), sharded(parameters, mesh)
        self.state = TrainState(step=0, params=params, opt_state=tx.init(params), tx=tx)
        self.apply = jax.jit(self.after, donate_argnums=0)

    @staticmethod
    def after(state, gradients):
        updates, slots = state.tx.update(gradients, state.opt_state, state.params)
        return state.replace(step=state.step + 1, params=optax.apply_updates(state.params, updates), opt_state=slots)

    def step(self, batch):
        noted = seen(self.model, batch)
        self.state = self.apply(self.state, noted["gradients"])
        return noted


class Metrics(nnx.Module):
    def __init__(self):
        self.loss = nnx.metrics.Average()


class WithMetrics(Kept):
    def __init__(self, parameters, mesh):
        super().__init__(parameters, mesh)
        self.metrics = None

    def keep(self, noted):
        self.metrics = self.metrics or Metrics()
        self.metrics.loss.update(values=noted["loss"])


RATE = {"reference": Decayed, "optimizer": None}
KINDS = {
    "a counter": RATE | {"candidate": Decayed},
    "a counter in bfloat16": RATE | {"candidate": Decayed, "dtype": "bfloat16"},
    "a counter that stands": RATE | {"candidate": Forgetful},
    "a counter in a dict": RATE | {"candidate": DecayedByDict},
    "an iterator": RATE | {"candidate": DecayedByIterator},
    "a counter in a closure": RATE | {"candidate": DecayedByClosure},
    "slots": RATE | {"candidate": DecayedBySlots},
    "a reference that counts in a closure": RATE | {"candidate": Decayed, "reference": DecayedByClosure},
    "a fault against such a reference": RATE | {"candidate": Forgetful, "reference": DecayedByClosure},
    "a fault against an iterator": RATE | {"candidate": Forgetful, "reference": DecayedByIterator},
    "a counted key": {"candidate": Keyed, "reference": Keyed, "optimizer": None},
    "a generator": {"candidate": Drawing, "reference": Drawing, "optimizer": None},
    "a fault against a generator": {"candidate": Decayed, "reference": Drawing, "optimizer": None},
    "unsteady": RATE | {"candidate": Unsteady},
    "last": {"candidate": Last},
    "losses": {"candidate": Losses},
    "later": {"candidate": Later},
    "deletes": {"candidate": Deletes},
    "donates": {"candidate": Donates},
    "shared": {"candidate": Shared},
    "shared by what was traced": {"candidate": Shared, "dtype": "float32"},
    "in a namespace": {"candidate": InNamespace},
    "in a namespace, with a fault": {"candidate": ForgetsInNamespace},
    "whole on every rank": {"candidate": Whole},
    "in a closure": {"candidate": InClosure},
    "a train state": {"candidate": InTrainState},
    "metrics": {"candidate": WithMetrics},
}


if __name__ == "__main__":
    answer_for(KINDS, reference=loss_of, parameters=PARAMETERS, batch=BATCH, mesh="tensor=2", optimizer=ADAM)
