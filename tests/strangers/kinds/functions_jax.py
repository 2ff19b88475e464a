"""Functions in JAX that take one step, right ones and broken ones."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from models_jax import loss_of, loss_of_words, tree_loss

rng = np.random.default_rng(1)


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
