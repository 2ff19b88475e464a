"""What a trainer holds is taken as a tree, and given back as it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from conformance.inline.jax_held import Held, Holder


class Trainer:
    def __init__(self) -> None:
        self.model, self.steps, self.last = {"w": jnp.ones(2)}, 0, None
        self.inner, self.losses = SimpleNamespace(slots=[jnp.zeros(2)]), list[Any]()
        self.key, self.mixed = jax.random.key(0), {1: "one", "two": jnp.ones(())}

    def step(self, by: Any) -> None:
        self.model = {"w": self.model["w"] - by}
        self.inner.slots.append(by)
        self.steps, self.last = self.steps + 1, by
        self.losses.append(by)
        self.key = jax.random.split(self.key)[0]
        del self.mixed
        self.added = by


def stepped(state: Held, by: Any) -> Held:
    state.trainer.step(by)
    return state.beside.holder.taken()


def test_arrays_are_named_by_where_they_are() -> None:
    state = Holder(Trainer()).taken()
    assert set(state.beside.attributes.names) == {"model.w", "inner.slots.0", "key"}


def test_a_trainer_that_runs_is_left_alone() -> None:
    trainer = Trainer()
    model = trainer.model
    assert Holder(trainer).taken().trainer.model is model


def test_a_trace_changes_another_moment_and_the_first_is_given_back() -> None:
    trainer = Trainer()
    first = Holder(trainer).taken()
    traced, after = jax.make_jaxpr(stepped, return_shape=True)(first, jnp.ones(2))
    assert len(traced.jaxpr.invars) == 4
    assert after.beside.attributes.plain != first.beside.attributes.plain
    assert first.trainer is trainer
    assert (trainer.steps, trainer.last, trainer.losses, len(trainer.inner.slots)) == (0, None, [], 1)
    assert not hasattr(trainer, "added")
    assert trainer.mixed[1] == "one"
    np.testing.assert_array_equal(jax.random.key_data(trainer.key), jax.random.key_data(jax.random.key(0)))


def test_another_count_is_another_program() -> None:
    moments = [Holder(Trainer()).taken(), Holder(Trainer()).taken(), Holder(Trainer()).taken()]
    moments[2].trainer.steps = 1
    moments[2] = moments[2].beside.holder.taken()
    trees = [jax.tree_util.tree_structure(moment) for moment in moments]
    assert trees[0] == trees[1] != trees[2]


def test_modules_that_are_shared_stay_shared() -> None:
    class OfModules:
        def __init__(self) -> None:
            self.model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
            self.same = [self.model]

    state = Holder(OfModules()).taken()
    other = jax.tree.map(lambda x: x + 1, state)
    assert len(other.arrays) == len(jax.tree.leaves(nnx.state(state.trainer.model)))
    assert other.trainer.same[0] is other.trainer.model
    np.testing.assert_array_equal(other.trainer.model.bias[...], 1)


def test_what_was_donated_is_no_array() -> None:
    trainer = Trainer()
    trainer.last = jnp.ones(3)
    trainer.last.delete()
    assert "last" not in Holder(trainer).taken().beside.attributes.names
