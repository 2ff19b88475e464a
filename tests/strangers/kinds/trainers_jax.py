"""Trainers of many kinds in JAX, right ones and broken ones; run as a script, it prints verdicts."""

import jax
from answering import answer_for
from explicit_jax import AccumulatesSums, Accumulating, AveragesBefore, Explicit, Forgets, OwnNorm, Sums, Unclipped
from flax import nnx
from functions_jax import (
    ATTENTION,
    attention,
    attention_of_blocks,
    attention_of_rows,
    differentiated,
    differentiated_words,
    doubled_module_step,
    everywhere_module,
    in_rows,
    module_forward,
    module_forward_of_a_row,
    module_step,
    tree_step,
    tree_step_of_sums,
    update,
)
from jax.sharding import PartitionSpec as P
from models_jax import (
    ADAMW,
    BATCH,
    SGD,
    TOKENS,
    TREE,
    Normed,
    Tied,
    block,
    dropping,
    loss_of,
    loss_of_words,
    predictions,
    tree_loss,
)

from conformance import Declarations, Traffic


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
    answer_for(KINDS, reference=tree_loss, batch=BATCH)
