"""Trainers with collectives of their own in JAX, right ones and broken ones."""

import jax
import jax.numpy as jnp
import optax
from functions_jax import (
    divided,
    everywhere,
    in_rows,
    local,
)
from jax.sharding import PartitionSpec as P
from models_jax import (
    ADAMW,
)


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
