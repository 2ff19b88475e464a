"""Trainers and modules of many kinds in JAX, right ones and broken ones; run as a script, it prints verdicts."""

import json
import sys
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import conformance
from conformance import Declarations, Traffic

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


def in_rows(batch, mesh):
    return {key: jax.device_put(value, NamedSharding(mesh, P("data"))) for key, value in batch.items()}


def everywhere(tree, mesh):
    return jax.device_put(tree, NamedSharding(mesh, P()))


def local(tree, batch, mean=True):
    """Each device its own rows; what is the same on all is summed by hand."""
    (loss, outputs), gradients = jax.value_and_grad(tree_loss, has_aux=True)(tree, batch)
    take = jax.lax.pmean if mean else jax.lax.psum
    with jax.named_scope("backward"):  # where the sum belongs, says its scope: no transposition made it
        gradients = take(gradients, "data")
    return jax.lax.pmean(loss, "data"), outputs, gradients


def divided(mesh, mean=True):
    specs = {"in_specs": (P(), P("data")), "out_specs": (P(), P("data"), P()), "check_vma": False}
    return jax.shard_map(partial(local, mean=mean), mesh=mesh, **specs)


def tree_step(tree, batch, mesh, mean=True):
    loss, outputs, gradients = divided(mesh, mean)(everywhere(tree, mesh), in_rows(batch, mesh))
    return {"loss": loss, "outputs": outputs, "gradients": gradients}


def tree_step_of_sums(tree, batch, mesh):
    """A planted fault: gradients are summed over the devices where a mean is wanted."""
    return tree_step(tree, batch, mesh, mean=False)


class Explicit:
    """Collectives of its own, in one compiled program; the optimizer's state is everywhere, as the parameters are."""

    clip = 0.25
    mean = True

    def __init__(self, tree, mesh, dtype):
        self.mesh, self.dtype, self.model, self.tx = mesh, dtype, everywhere(tree, mesh), ADAMW()
        self.optimizer, self.ema = self.tx.init(self.model), self.model
        self.program = jax.jit(self.trained)

    def step(self, batch):
        kept = (self.model, self.optimizer, self.ema)
        (self.model, self.optimizer, self.ema), seen = self.program(kept, in_rows(batch, self.mesh))
        return seen

    def trained(self, kept, batch):
        model, optimizer, ema = kept
        cast = jax.tree.map(lambda p: p.astype(self.dtype), model)
        loss, outputs, gradients = self.differentiated(cast, batch)
        gradients = jax.tree.map(lambda g, p: g.astype(p.dtype), gradients, model)
        seen = {"loss": loss, "outputs": outputs, "gradients": gradients}
        if self.clip is not None:
            norm = self.norm(gradients)
            seen["metrics/grad_norm"] = norm
            gradients = jax.tree.map(lambda g: g * jnp.minimum(1, self.clip / norm), gradients)
        return self.updated(model, optimizer, ema, gradients), seen

    def differentiated(self, tree, batch):
        return divided(self.mesh, self.mean)(tree, batch)

    def norm(self, gradients):
        return optax.global_norm(gradients)

    def updated(self, model, optimizer, ema, gradients):
        updates, optimizer = self.tx.update(gradients, optimizer, model)
        model = optax.apply_updates(model, updates)
        return model, optimizer, averaged(ema, model)


def averaged(ema, model):
    return jax.tree.map(lambda a, p: 0.75 * a + 0.25 * p, ema, model)


class Sums(Explicit):
    """A planted fault: sums in place of means, which clipping hides from the parameters."""

    mean = False


class OwnNorm(Explicit):
    """A planted fault: the norm of the last layer alone."""

    def norm(self, gradients):
        return optax.global_norm(gradients["layers"][1])


class Accumulating(Explicit):
    slices, share = 3, 3

    def differentiated(self, tree, batch):
        """Slices of every device's own rows."""

        def whole(tree, batch):
            parts = []
            for n in range(self.slices):
                parts.append(local(tree, {key: jnp.split(value, self.slices)[n] for key, value in batch.items()}))
            losses, outputs, gradients = zip(*parts, strict=True)
            y = jnp.concatenate([part["y"] for part in outputs])
            gradients = jax.tree.map(lambda *g: sum(g) / self.share, *gradients)
            return sum(losses) / self.slices, {"y": y}, gradients

        specs = {"in_specs": (P(), P("data")), "out_specs": (P(), P("data"), P()), "check_vma": False}
        return jax.shard_map(whole, mesh=self.mesh, **specs)(tree, batch)


class AccumulatesSums(Accumulating):
    """A planted fault: the gradients of slices are added up."""

    share = 1


class Unclipped(Explicit):
    clip = None


class AveragesBefore(Unclipped):
    """A planted fault: the average follows the parameters before they are updated."""

    def updated(self, model, optimizer, ema, gradients):
        after, optimizer, _ = super().updated(model, optimizer, ema, gradients)
        return after, optimizer, averaged(ema, model)


class Forgets(Unclipped):
    """A planted fault: the optimizer begins anew in every step."""

    def updated(self, model, optimizer, ema, gradients):
        return super().updated(model, self.tx.init(model), ema, gradients)


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


def sharded(model, mesh):
    """Kernels by columns and rows over `tensor`, everything else everywhere; 10 features do not divide by 4."""
    specs = {("layers", 0, "kernel"): P("data"), ("layers", 1, "kernel"): P(None, "data")}
    graph, state = nnx.split(model)
    flat = [
        (path, v.replace(jax.device_put(v[...], NamedSharding(mesh, specs.get(path, P())))))
        for path, v in nnx.to_flat_state(state)
    ]
    return nnx.merge(graph, nnx.from_flat_state(flat))


@nnx.jit
def differentiated(model, batch):
    (loss, outputs), gradients = nnx.value_and_grad(loss_of, has_aux=True)(model, batch)
    return loss, outputs, gradients


@nnx.jit
def differentiated_words(model, batch):
    (loss, outputs), gradients = nnx.value_and_grad(loss_of_words, has_aux=True)(model, batch)
    return loss, outputs, gradients


@nnx.jit
def update(model, optimizer, gradients):
    optimizer.update(model, gradients)


def module_step(model, batch, mesh):
    loss, outputs, gradients = differentiated(everywhere_module(model, mesh), in_rows(batch, mesh))
    return {"loss": loss, "outputs": outputs, "gradients": gradients}


def doubled_module_step(model, batch, mesh):
    """A planted fault: one gradient counts every device."""
    seen = module_step(model, batch, mesh)
    seen["gradients"]["layers"][0]["bias"][...] *= mesh.size
    return seen


def everywhere_module(model, mesh):
    nnx.update(model, everywhere(nnx.state(model), mesh))
    return model


def module_forward(model, batch, mesh):
    return {"outputs/y": everywhere_module(model, mesh)(in_rows(batch, mesh)["x"])}


def module_forward_of_a_row(model, batch, mesh):
    """A planted fault: rows come back in another order."""
    return {"outputs/y": module_forward(model, batch, mesh)["outputs/y"][::-1]}


class Nnx:
    """Automatic partitioning over data."""

    differentiated = staticmethod(differentiated)

    def __init__(self, model, mesh):
        self.mesh, self.model = mesh, everywhere_module(model, mesh)
        self.optimizer = nnx.Optimizer(model, self.made(), wrt=nnx.Param)

    def made(self):
        return ADAMW()

    def step(self, batch):
        loss, outputs, gradients = self.differentiated(self.model, in_rows(batch, self.mesh))
        update(self.model, self.optimizer, gradients)
        return {"loss": loss, "outputs": outputs, "gradients": gradients}


class NnxWords(Nnx):
    differentiated = staticmethod(differentiated_words)


class NnxUntied(NnxWords):
    """A planted fault: dividing the module has made two weights of one."""

    def __init__(self, model, mesh):
        model.head = nnx.Param(model.embed[...])
        super().__init__(model, mesh)


class NnxMixed(Nnx):
    """Kept in float32, computed in the dtype of the case."""

    def __init__(self, model, mesh, dtype):
        self.dtype = dtype
        super().__init__(model, mesh)

    def step(self, batch):
        graph, state = nnx.split(self.model)
        low = nnx.merge(graph, jax.tree.map(lambda x: x.astype(self.dtype) if x.dtype == "float32" else x, state))
        loss, outputs, gradients = self.differentiated(low, in_rows(batch, self.mesh))
        gradients = jax.tree.map(lambda g: g.astype("float32"), gradients)
        update(self.model, self.optimizer, gradients)
        return {"loss": loss, "outputs": outputs, "gradients": gradients}


class Frozen(Nnx):
    def __init__(self, model, mesh):
        self.mesh, self.model = mesh, everywhere_module(model, mesh)
        self.optimizer = nnx.Optimizer(model, SGD(), wrt=TRAINED)

    def step(self, batch):
        loss, outputs, gradients = differentiated_above(self.model, in_rows(batch, self.mesh))
        update(self.model, self.optimizer, gradients)
        return {"loss": loss, "outputs": outputs, "gradients": gradients}


class Thawed(Nnx):
    """A planted fault: what is frozen is trained as well."""

    def made(self):
        return SGD()


TRAINED = nnx.All(nnx.Param, lambda path, value: 0 not in path)


@nnx.jit
def differentiated_above(model, batch):
    above = nnx.DiffState(0, TRAINED)
    (loss, outputs), gradients = nnx.value_and_grad(loss_of, argnums=above, has_aux=True)(model, batch)
    return loss, outputs, gradients


class OwnRows(Nnx):
    """A planted fault: each device normalizes by the statistics of its own rows."""

    def step(self, batch):
        graph, state = nnx.split(self.model)

        def local(state, batch):
            model = nnx.merge(graph, state)
            (loss, outputs), gradients = nnx.value_and_grad(loss_of, has_aux=True)(model, batch)
            after = jax.lax.pmean(nnx.state(model, nnx.BatchStat), "data")
            return jax.lax.pmean(loss, "data"), outputs, jax.lax.pmean(gradients, "data"), after

        specs = {"in_specs": (P(), P("data")), "out_specs": (P(), P("data"), P(), P()), "check_vma": False}
        loss, outputs, gradients, after = jax.shard_map(local, mesh=self.mesh, **specs)(
            state, in_rows(batch, self.mesh)
        )
        nnx.update(self.model, after)
        update(self.model, self.optimizer, gradients)
        return {"loss": loss, "outputs": outputs, "gradients": gradients}


class Alone:
    """On one device; the same recipe."""

    def __init__(self, model, mesh):
        self.model, self.optimizer = model, nnx.Optimizer(model, ADAMW(), wrt=nnx.Param)

    def step(self, batch):
        loss, outputs, gradients = differentiated(self.model, batch)
        update(self.model, self.optimizer, gradients)
        return {"loss": loss, "outputs": outputs, "gradients": gradients}


class Twice(Nnx):
    """A planted fault: the optimizer takes two steps for one."""

    def step(self, batch):
        seen = super().step(batch)
        update(self.model, self.optimizer, seen["gradients"])
        return seen


def attention(parameters, batch):
    weights = jax.nn.softmax(batch["q"] @ jnp.swapaxes(batch["k"], -1, -2))
    return {"out": weights @ batch["v"]}


def attention_of_rows(parameters, batch, mesh):
    rows = {"q": P(None, "sequence"), "k": P(), "v": P()}
    whole = jax.shard_map(partial(attention, {}), mesh=mesh, in_specs=(rows,), out_specs=P(None, "sequence"))
    return {"outputs": whole(batch)}


def attention_of_blocks(parameters, batch, mesh):
    """A planted fault: a device sees its own block of keys alone."""
    rows = P(None, "sequence")
    return {"outputs": jax.shard_map(partial(attention, {}), mesh=mesh, in_specs=(rows,), out_specs=rows)(batch)}


ATTENTION = {key: rng.normal(size=(2, 8, 4)) for key in ("q", "k", "v")}


def reduced(mesh, dtype):
    """Loss and gradients are averaged over data, all in the dtype of the case."""
    size = {"float64": 8, "float32": 4, "bfloat16": 2}[dtype]
    elements = sum(leaf.size for leaf in jax.tree.leaves(TREE))
    sent = Traffic(kind="all_reduce", axes=("data",), phase="backward", calls=5, bytes=elements * size)
    loss = Traffic(kind="all_reduce", axes=("data",), phase="forward", calls=1, bytes=size)
    return Declarations(traffic=(loss, sent))


TRAINER = {"candidate": Explicit, "parameters": TREE, "mesh": "data=4", "optimizer": ADAMW, "clip_norm": 0.25}
PLAIN = TRAINER | {"candidate": Unclipped, "clip_norm": None, "ema": 0.75}
IN_TREE = {"candidate": tree_step, "parameters": TREE, "mesh": "data=4"}
MODULE = {"candidate": module_step, "parameters": block, "mesh": "data=4", "reference": loss_of}
NNX = MODULE | {"candidate": Nnx, "optimizer": ADAMW}
TIED = NNX | {"candidate": NnxWords, "parameters": Tied(nnx.Rngs(0)), "reference": loss_of_words, "batch": TOKENS}
NORM = NNX | {"parameters": Normed(nnx.Rngs(0))}
FROZEN = NNX | {"candidate": Frozen, "optimizer": SGD, "frozen": ["layers.0.*"]}
NARROW = {"dtype": "bfloat16"}
INFERENCE = MODULE | {"candidate": module_forward, "reference": predictions, "batch": {"x": BATCH["x"]}}
NO_PARAMETERS = {"candidate": attention_of_rows, "parameters": {}, "mesh": "sequence=4", "reference": attention,
                 "batch": ATTENTION}  # fmt: skip

KINDS = {
    "tree": IN_TREE,
    "tree in bfloat16": IN_TREE | NARROW,
    "tree with a fault": IN_TREE | {"candidate": tree_step_of_sums},
    "trainer": TRAINER,
    "trainer in bfloat16": TRAINER | NARROW,
    "sums": TRAINER | {"candidate": Sums},
    "clips by its own norm": TRAINER | {"candidate": OwnNorm},
    "accumulates": TRAINER | {"candidate": Accumulating},
    "accumulates in bfloat16": TRAINER | {"candidate": Accumulating} | NARROW,
    "accumulates sums": TRAINER | {"candidate": AccumulatesSums},
    "average": PLAIN,
    "average in bfloat16": PLAIN | NARROW,
    "average too early": PLAIN | {"candidate": AveragesBefore},
    "optimizer begins anew": PLAIN | {"candidate": Forgets, "ema": None},
    "module": MODULE,
    "module in bfloat16": MODULE | NARROW,
    "module with a fault": MODULE | {"candidate": doubled_module_step},
    "nnx trainer": NNX,
    "nnx trainer in bfloat16": NNX | NARROW | {"candidate": NnxMixed},
    "tied": TIED,
    "untied": TIED | {"candidate": NnxUntied},
    "buffers": NORM,
    "buffers of own rows": NORM | {"candidate": OwnRows},
    "dropout in training": NORM | {"parameters": dropping},
    "frozen": FROZEN,
    "thawed": FROZEN | {"candidate": Thawed},
    "forward only": INFERENCE,
    "forward only in bfloat16": INFERENCE | NARROW,
    "forward only with a fault": INFERENCE | {"candidate": module_forward_of_a_row},
    "no parameters": NO_PARAMETERS,
    "no parameters with a fault": NO_PARAMETERS | {"candidate": attention_of_blocks},
    "class as reference": NNX | {"reference": Alone, "optimizer": None},
    "class as reference, with a fault": NNX | {"reference": Alone, "optimizer": None, "candidate": Twice},
    "declared": PLAIN | {"declare": reduced, "ema": None},
    "declares nothing": PLAIN | {"declare": Declarations(traffic=()), "ema": None},
}


if __name__ == "__main__":
    for kind in sys.argv[1:] or KINDS:
        asked = {"reference": tree_loss, "batch": BATCH} | KINDS[kind]
        try:
            judgement = conformance.check(**asked)
            answer = {"kind": kind, "verdict": judgement.result.verdict, "text": str(judgement)}
        except ValueError as refusal:
            answer = {"kind": kind, "verdict": "refused", "text": str(refusal)}
        print(f"\x1e{json.dumps(answer)}", flush=True)
