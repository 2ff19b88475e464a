"""A trainer with explicit collectives: a tensor-parallel network over `data` and `tensor`, AdamW by optax.

`python train.py` on one device; `python train.py --data 2 --tensor 4 --folder runs/tp4` on eight, or as two processes
with `--processes 2 --process 0` and `--process 1`, four devices each.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

FAULTS = ("output-not-reduced", "bias-per-rank", "gradient-not-averaged")
ROWS, WIDTH, HIDDEN, CLASSES = 12, 20, 36, 7


def parameters(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shapes = {"up": (WIDTH, HIDDEN), "up_bias": (HIDDEN,), "down": (HIDDEN, CLASSES), "down_bias": (CLASSES,)}
    return {name: rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def batches(steps: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(1)
    for _ in range(steps):
        x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
        yield {"x": x, "labels": rng.integers(0, CLASSES, ROWS)}


def loss_and_logits(p: dict[str, Any], batch: dict[str, Any], args: argparse.Namespace) -> tuple[Any, Any]:
    """The part of the mean loss that this data rank's rows have; `up` by columns, `down` by rows."""
    h = jnp.tanh(batch["x"] @ p["up"] + p["up_bias"])
    y = h @ p["down"]
    if args.fault == "bias-per-rank":
        y = jax.lax.psum(y + p["down_bias"], "tensor")
    else:
        y = (y if args.fault == "output-not-reduced" else jax.lax.psum(y, "tensor")) + p["down_bias"]
    rows = jnp.arange(len(y))
    return -jnp.sum(jax.nn.log_softmax(y)[rows, batch["labels"]]) / ROWS, y


def gradients(p: dict[str, Any], batch: dict[str, Any], args: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Loss, logits and gradients of this rank, with what must be summed over `data` summed."""
    scaled = partial(loss_and_logits, args=args)
    (loss, logits), grads = jax.value_and_grad(scaled, has_aux=True)(p, batch)
    if args.fault != "gradient-not-averaged":
        grads = jax.tree.map(lambda g: jax.lax.psum(g, "data"), grads)
    # with check_vma=False, the transpose of psum is psum: `tensor` ranks have each added the same
    grads = {name: g / args.tensor if name != "down_bias" else g for name, g in grads.items()}
    return jax.lax.psum(loss, "data"), logits, grads


def train(args: argparse.Namespace) -> None:
    mesh = jax.make_mesh((args.data, args.tensor), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    specs = {"up": P(None, "tensor"), "up_bias": P("tensor"), "down": P("tensor", None), "down_bias": P()}
    rows = {"x": P("data"), "labels": P("data")}
    sharded = jax.shard_map(
        partial(gradients, args=args),
        mesh=mesh,
        in_specs=(specs, rows),
        out_specs=(P(), P("data"), specs),
        check_vma=False,
    )

    def placed(tree: dict[str, Any], where: dict[str, Any]) -> dict[str, Any]:
        return {name: jax.device_put(x, NamedSharding(mesh, where[name])) for name, x in tree.items()}

    transform = optax.adamw(1e-2, eps=1e-3)
    p = placed(parameters(0), specs)
    state = transform.init(p)

    @jax.jit
    def step(p: Any, state: Any, batch: Any) -> Any:
        loss, logits, grads = sharded(p, batch)
        updates, state = transform.update(grads, state, p)
        return optax.apply_updates(p, updates), state, loss, logits, grads

    with conformance.capture(args.folder, model=p, optimizer=state, mesh=mesh, steps=3) as seen:
        p, state = seen.model, seen.optimizer
        for batch in batches(3):
            batch = seen.batch(placed(batch, rows))
            p, state, loss, logits, grads = step(p, state, batch)
            seen.step(loss=loss, gradients=grads, model=p, optimizer=state, outputs={"logits": logits})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=int, default=1)
    parser.add_argument("--tensor", type=int, default=1)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--port", type=int, default=6120)
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    count = given.data * given.tensor // given.processes
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"

    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    import conformance

    if given.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{given.port}", given.processes, given.process)
    train(given)
