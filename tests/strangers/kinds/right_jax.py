"""Right JAX candidates of many kinds, and some that must be refused or found; run as a script, it prints verdicts."""

import jax
import jax.numpy as jnp
import numpy as np
from answering import answer_for
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

rng = np.random.default_rng(0)
PARAMETERS = {"up": rng.normal(size=(6, 8)), "down": rng.normal(size=(8, 6))}
BATCH = {"x": rng.normal(size=(12, 6))}


def reference(parameters, batch):
    y = jnp.tanh(batch["x"] @ parameters["up"]) @ parameters["down"]
    return jnp.mean(y**2), {"y": y}


def looking_reference(parameters, batch):
    """Looks at values, which no compiled function can."""
    assert float(batch["x"][0, 0]) != 0
    if batch["x"].sum() > 1e6:
        raise ValueError("too large")
    return reference(parameters, batch)


def complex_reference(parameters, batch):
    loss, outputs = reference(parameters, batch)
    return loss, {"y": outputs["y"] * (1 + 1j)}


def in_single(parameters, batch):
    """The elementwise part in float32, as a library does it."""
    y = jnp.tanh((batch["x"] @ parameters["up"]).astype("float32")).astype("float64") @ parameters["down"]
    return jnp.mean(y**2), {"y": y}


def single_loss(parameters, batch):
    loss = reference(parameters, batch)[0]
    return jnp.sqrt(loss.astype("float32")).astype("float64") ** 2, {}


def wide_loss(parameters, batch):
    return reference(parameters, batch)[0], {}


def step(parameters, x, mesh, axis=None):
    axis = axis or mesh.axis_names[-1]

    def loss(parameters, x):
        y = jax.lax.psum(jnp.tanh(x @ parameters["up"]) @ parameters["down"], axis)
        return jnp.mean(y**2), y

    specs = {"up": P(None, axis), "down": P(axis, None)}
    sharded = jax.shard_map(loss, mesh=mesh, in_specs=(specs, P()), out_specs=(P(), P()))
    (value, y), gradients = jax.value_and_grad(sharded, has_aux=True)(parameters, x)
    return {"loss": value, "outputs/y": y} | {f"gradients/{name}": g for name, g in gradients.items()}


def single_step(parameters, batch, mesh, function=in_single):
    def loss(parameters, batch):
        return function(parameters, batch)

    (value, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(parameters, batch)
    returned = {"loss": value} | {f"outputs/{name}": y for name, y in outputs.items()}
    returned |= {f"gradients/{name}": g for name, g in gradients.items()}
    everywhere = NamedSharding(mesh, P())
    return {name: jax.device_put(value, everywhere) for name, value in returned.items()}


def single_loss_step(parameters, batch, mesh):
    return single_step(parameters, batch, mesh, single_loss)


def single_and_wrong(parameters, batch, mesh):
    return {name: value * 1.01 for name, value in single_step(parameters, batch, mesh).items()}


def plain(parameters, batch, mesh):
    return step(parameters, batch["x"], mesh)


def with_set_mesh(parameters, batch, mesh):
    with jax.set_mesh(mesh):
        return step(parameters, batch["x"], mesh)


def with_sharding_read(parameters, batch, mesh):
    x = jax.device_put(batch["x"], NamedSharding(mesh, P()))
    assert x.sharding.is_fully_replicated
    return step(parameters, x, mesh)


def with_values_read(parameters, batch, mesh):
    assert np.isfinite(np.asarray(batch["x"])).all()
    returned = step(parameters, batch["x"], mesh)
    assert returned["loss"] > 0
    if float(returned["loss"]) > 1e9:
        raise OverflowError("diverged")
    return returned


def with_donation(parameters, batch, mesh):
    specs = {"up": P(None, "tensor"), "down": P("tensor", None)}
    placed = {name: jax.device_put(p, NamedSharding(mesh, specs[name])) for name, p in parameters.items()}
    scaled = jax.jit(lambda p: jax.tree.map(lambda leaf: 1.0 * leaf, p), donate_argnums=0)(placed)
    doubled = jax.jit(lambda p: jax.tree.map(lambda leaf: 1.0 * leaf, p), donate_argnums=0)(parameters)
    assert all(p.is_deleted() for p in placed.values())
    return step({"up": scaled["up"], "down": doubled["down"]}, batch["x"], mesh)


class Annotated(nnx.Module):
    def __init__(self, parameters):
        axes = {"up": (None, "tensor"), "down": ("tensor", None)}
        for name, value in parameters.items():
            setattr(self, name, nnx.Param(value, sharding_names=axes[name]))

    def __call__(self, x):
        return jnp.tanh(x @ self.up[...]) @ self.down[...]


def with_flax_annotations(parameters, batch, mesh):
    specs = {"up": P(None, "tensor"), "down": P("tensor", None)}
    placed = {name: jax.device_put(p, NamedSharding(mesh, specs[name])) for name, p in parameters.items()}
    with jax.set_mesh(mesh):
        model = Annotated(placed)
        assert len(model.up.get_value().sharding.device_set) == mesh.size

        @nnx.jit
        def differentiated(model, x):
            def loss(model):
                y = model(x)
                return jnp.mean(y**2), y

            return nnx.value_and_grad(loss, has_aux=True)(model)

        (loss, y), gradients = differentiated(model, batch["x"])
    returned = {f"gradients/{name}": gradients[name].get_value() for name in ("up", "down")}
    return {"loss": loss, "outputs/y": y} | returned


def as_numpy(parameters, batch, mesh):
    return {name: np.asarray(value) for name, value in plain(parameters, batch, mesh).items()}


def as_lists(parameters, batch, mesh):
    returned = plain(parameters, batch, mesh)
    return {name: np.asarray(value).tolist() for name, value in returned.items()} | {"loss": float(returned["loss"])}


def half_numpy(parameters, batch, mesh):
    returned = plain(parameters, batch, mesh)
    return {name: np.asarray(value) for name, value in returned.items()} | {
        "loss": jnp.float64(float(returned["loss"]))
    }


def wrong_numpy(parameters, batch, mesh):
    return as_numpy(parameters, batch, mesh) | {"loss": 1.0}


def raises(parameters, batch, mesh):
    returned = plain(parameters, batch, mesh)
    return returned["outputs/z"]


def complex_loss(parameters, batch, mesh):
    return plain(parameters, batch, mesh) | {"outputs/y": np.ones((12, 6)) * 1j}


WHOLE = {"replicated_axes": ("tensor",)}  # every rank runs all of it
KINDS = {
    **{
        f"plain in {dtype}": {"candidate": plain, "dtype": dtype}
        for dtype in ("float64", "float32", "bfloat16", "float16")
    },
    "set_mesh": {"candidate": with_set_mesh},
    "x.sharding": {"candidate": with_sharding_read},
    "values": {"candidate": with_values_read, "reference": looking_reference},
    "donation": {"candidate": with_donation},
    "flax": {"candidate": with_flax_annotations},
    "numpy": {"candidate": as_numpy},
    "lists": {"candidate": as_lists},
    "loss on one device": {"candidate": half_numpy},
    "wrong numpy": {"candidate": wrong_numpy},
    "jitted reference": {"candidate": plain, "reference": jax.jit(reference)},
    "model=4": {"candidate": plain, "mesh": "model=4"},
    "dp=2,tp=2": {"candidate": plain, "mesh": "dp=2,tp=2"},
    "x=2": {"candidate": plain, "mesh": "x=2", "roles": {"x": "tensor"}},
    "raises": {"candidate": raises},
    "complex loss": {"candidate": complex_loss},
    "complex reference": {"candidate": plain, "reference": complex_reference},
    "single reference": {"candidate": plain, "reference": in_single},
    "single both": WHOLE | {"candidate": single_step, "reference": in_single},
    "single candidate": WHOLE | {"candidate": single_step},
    "single loss": WHOLE | {"candidate": single_loss_step, "reference": wide_loss},
    "single and wrong": WHOLE | {"candidate": single_and_wrong, "reference": in_single},
    "jax arrays": {"candidate": plain, "parameters": {name: jnp.float32(p) for name, p in PARAMETERS.items()}},
}


if __name__ == "__main__":
    answer_for(KINDS, reference=reference, parameters=PARAMETERS, batch=BATCH, mesh="tensor=4")
