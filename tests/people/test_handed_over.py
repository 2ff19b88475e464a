"""What `check` is handed over: names from paths, and a sentence for what does not go together. No worker starts."""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn

import conformance
from conformance.inline import trees
from conformance.inline.given import given
from conformance.inline.jax_model import slots_of
from conformance.inline.located import call
from conformance.inline.observed import named, outputs_of
from conformance.inline.pickled import unpickled


class Layer(NamedTuple):
    w: Any
    b: Any


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)
        self.down.weight.requires_grad_(False)
        self.register_buffer("angles", torch.arange(3.0), persistent=False)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(4, 2), nn.Linear(2, 4, bias=False)
        self.head.weight = self.embed.weight


class Flax(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)])
        self.again = self.layers[0]
        self.norm, self.dropout = nnx.BatchNorm(2, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)


def reference(parameters: Any, batch: Any) -> Any:
    return batch["x"].mean(), {}


def candidate(parameters: Any, batch: Any, mesh: Any) -> Any:
    return {}


class Trainer:
    def __init__(self, parameters: Any, mesh: Any) -> None: ...

    def step(self, batch: Any) -> Any: ...


def needs(size: int) -> nn.Module:
    return nn.Linear(size, size)


def makes_a_number() -> int:
    return 3


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters())


TREE = {"layers": [Layer(np.ones(2), np.zeros(3)), None], "head": ({"w": np.ones(4)},)}


def test_a_tree_is_named_by_its_paths_and_put_together_again() -> None:
    assert list(trees.leaves(TREE)) == ["layers.0.w", "layers.0.b", "head.0.w"]
    again = trees.filled(trees.names(TREE), {"layers.0.w": 1, "head.0.w": 3})
    assert again == {"layers": [Layer(1, None), None], "head": ({"w": 3},)}
    assert trees.names(OrderedDict(b=[0], a=0)) == {"b": ["b.0"], "a": "a"}


def test_two_leaves_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Two parameters of the tree have the name 'a\.b'"):
        given({"a.b": np.ones(1), "a": {"b": np.ones(1)}})


def test_a_container_that_jax_knows_is_rebuilt_by_jax() -> None:
    @functools.partial(jax.tree_util.register_dataclass, data_fields=["w"], meta_fields=[])
    @dataclass
    class Held:
        w: Any

    assert trees.leaves({"a": Held(w=np.ones(2))}).keys() == {"a.w"}
    assert trees.mapped({"a": Held(w=1)}, lambda name, leaf: leaf + 1)["a"].w == 2


def test_a_module_of_torch() -> None:
    taken = given(Net())
    assert taken.framework == "torch"
    assert list(taken.parameters) == ["up.weight", "up.bias", "norm.weight", "norm.bias", "down.weight", "down.bias"]
    assert taken.frozen == ("down.weight",)
    assert list(taken.buffers) == ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    again = unpickled(taken.blueprint.pickled, taken.blueprint.modules)
    assert type(again).__name__ == "Net"


def test_a_tied_weight_is_one_parameter() -> None:
    assert list(given(Tied()).parameters) == ["embed.weight"]
    assert list(given(Tied).parameters) == ["embed.weight"]


def test_a_module_of_flax() -> None:
    taken = given(Flax(nnx.Rngs(0)))
    assert taken.framework == "jax"
    assert set(taken.buffers) == {"norm.mean", "norm.var"}
    assert sum("kernel" in name for name in taken.parameters) == 2, "the layer that is there twice has one kernel"


def test_frozen_patterns() -> None:
    assert given(TREE, frozen=["layers.*"]).frozen == ("layers.0.w", "layers.0.b")
    with pytest.raises(ValueError, match="frozen names 'other', which is none of layers"):
        given(TREE, frozen=["other"])


def test_slots_of_optimizers_have_the_names_of_parameters() -> None:
    chain = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    tree = {"layers": [{"w": jnp.ones(2)}]}
    names = {"count", "mu/layers.0.w", "nu/layers.0.w"}
    assert set(slots_of(chain.init(tree))) == names
    module = nnx.Linear(2, 2, use_bias=False, rngs=nnx.Rngs(0))
    slots = slots_of(nnx.Optimizer(module, optax.adamw(1e-3), wrt=nnx.Param))
    assert set(slots) == {"count", "mu/kernel", "nu/kernel"}
    twice = optax.chain(optax.scale_by_adam(), optax.scale_by_adam())
    assert len(slots_of(twice.init(tree))) == 6, "no slot hides another one of its name"


def test_observations_may_come_as_trees() -> None:
    seen = named({"loss": 1, "gradients": {"layers": [{"w": 2}]}, "outputs/y": [3]}, trees.leaves)
    assert seen == {"loss": 1, "gradients/layers.0.w": 2, "outputs/y": [3]}
    assert named((1, {"y": 2}), trees.leaves) == {"outputs/y": 2, "loss": 1}
    assert outputs_of({"y": 1}, trees.leaves) == (None, {"y": 1})
    with pytest.raises(ValueError, match=r"return \(loss, outputs\), or outputs alone"):
        outputs_of({"loss": 1}, trees.leaves)


def test_outputs_may_be_nested_and_lists_of_numbers_are_arrays() -> None:
    single, pair = np.ones(1), np.ones(2)
    returned = (0.5, {"attention": {"y": single, "heads": [pair, single]}, "counts": [[1, 2], [3, 4]]})
    flat = {"attention.y": single, "attention.heads.0": pair, "attention.heads.1": single, "counts": [[1, 2], [3, 4]]}
    assert outputs_of(returned, trees.leaves) == (0.5, flat)
    assert named(returned, trees.leaves) == {f"outputs/{name}": value for name, value in flat.items()} | {"loss": 0.5}
    assert outputs_of((0.5, single), trees.leaves) == (0.5, {"y": single})
    with pytest.raises(ValueError, match="returns a tuple of 3"):
        outputs_of((0.5, single, pair), trees.leaves)


def test_a_partial_is_found_again() -> None:
    located = call(functools.partial(optax.adamw, 1e-3, weight_decay=0.1))
    assert located.path.endswith(":adamw")
    assert (located.args, located.keywords) == ((1e-3,), {"weight_decay": 0.1})


def test_a_partial_of_what_cannot_be_sent_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="the partial of 'adamw' fixes cannot be sent to other processes"):
        call(functools.partial(optax.adamw, optax.linear_schedule(1e-2, 0.0, 10)))


X = {"x": np.ones((6, 2))}
TRAINED = {"candidate": Trainer, "optimizer": adamw, "parameters": Net()}
WRONG = [
    ({"candidate": candidate, "optimizer": adamw}, "give the candidate as a class"),
    ({"reference": Trainer}, "give the candidate as a class"),
    (TRAINED | {"reference": Trainer}, "A reference that is a class trains itself"),
    (TRAINED | {"steps": 1}, "An optimizer is judged by two steps or more"),
    (TRAINED | {"steps": 0}, "there is 1 step or more"),
    (TRAINED | {"accumulation": 4}, "The 6 rows of 'x' do not divide into 4 slices of accumulation"),
    (TRAINED | {"accumulation": 0}, "a batch has 1 slice or more"),
    (TRAINED | {"clip_norm": 0.0}, "clipped to a norm above 0"),
    (TRAINED | {"ema": 1.0}, "0 or more, and less than 1"),
    ({"candidate": Trainer, "clip_norm": 1.0}, "give the optimizer too"),
    (TRAINED | {"parameter_dtype": "int8"}, "parameter_dtype is one of"),
    ({"parameter_dtype": "float32"}, "parameter_dtype is one of"),
    ({"timeout": 0.0}, "give more than 0"),
    ({"batch": []}, "a list of such, one for each step"),
    ({"batch": [X, {"x": np.ones((3, 2))}]}, "The batches differ in names or shapes"),
    ({"declare": "nothing"}, r"or a function \(mesh, dtype\) that returns them"),
    ({"parameters": 3}, "parameters is a int: give a mapping"),
    ({"parameters": needs}, "'needs' needs arguments"),
    ({"parameters": makes_a_number}, "'makes_a_number' makes a int"),
    ({"parameters": nn.Linear(2, 2, device="meta")}, "lies on the meta device and has no values"),
    ({"parameters": {"w": "text"}}, "The parameter 'w' is a str that is no array of numbers"),
    ({"parameters": Net(), "still": ["gradients/down.weight"]}, "still names 'gradients/down.weight'"),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_what_does_not_go_together_is_refused_in_a_sentence(options: dict[str, Any], sentence: str) -> None:
    asked = {"reference": reference, "candidate": candidate, "parameters": TREE, "batch": X, "mesh": "data=2"}
    with pytest.raises(ValueError, match=sentence) as refused:
        conformance.check(**(asked | {"framework": "torch"} | options))
    assert "\n" not in str(refused.value)
