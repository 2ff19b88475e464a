"""JAX programs for the tests of the workers: one that is right, and one for every way to break a worker."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from conformance.contract.alteration import Alteration
from conformance.contract.implementation import Implementation, Packed, Reordered, Unsupported


class Reference:
    def __init__(self, contract: Any, dtype: str) -> None:
        self.dtype = dtype
        self.program = jax.jit(jax.value_and_grad(_loss))

    def place(self, parameters: dict) -> Any:
        return jnp.asarray(parameters["w"], self.dtype)

    def step(self, w: Any, batch: dict) -> Any:
        x, mask = (jnp.asarray(batch[key], self.dtype) for key in ("x", "mask"))
        loss, gradient = self.program(w, x, mask)
        return w - gradient, {"loss": loss, "gradients/w": gradient}

    def collect(self, w: Any) -> Any:
        return {"parameters/w": w}


def _loss(w: Any, x: Any, mask: Any) -> Any:
    return 0.5 * jnp.sum(mask[:, None] * (x @ w) ** 2)


class Right(Implementation):
    """Rows over the tensor axis; w replicated."""

    framework = "jax"

    def place(self, parameters: dict, mesh: Any) -> Any:
        self.jax_mesh = mesh
        self.program = jax.jit(
            jax.shard_map(
                self.on_each,
                mesh=mesh,
                in_specs=(P(), P("tensor"), P("tensor")),
                out_specs=(P(), P(), P()),
                check_vma=False,
            )
        )
        return jax.device_put(parameters["w"].astype(self.dtype), NamedSharding(mesh, P()))

    def on_each(self, w: Any, x: Any, mask: Any) -> Any:
        loss, gradient = jax.value_and_grad(_loss)(w, x, mask)
        loss, gradient = self.total(loss), self.total(gradient)
        return w - gradient, loss, gradient

    def total(self, x: Any) -> Any:
        return lax.psum(x, "tensor")

    def step(self, w: Any, batch: dict) -> Any:
        w, loss, gradient = self.program(w, batch["x"].astype(self.dtype), batch["mask"].astype(self.dtype))
        return w, {"loss": loss, "gradients/w": gradient}

    def collect(self, w: Any) -> Any:
        return {"parameters/w": w}


class Doubled:
    """A fault: the sum is counted twice."""

    def total(self, x: Any) -> Any:
        return 2 * super().total(x)  # type: ignore[misc]


class Alters(Right):
    """Can count the sum as often as it is told to."""

    times = 1

    def alterations(self) -> tuple[Alteration, ...]:
        return (Alteration(operator="count_again", site=2, what="counted twice", axis="tensor"),)

    def alter(self, operator: str, site: int) -> None:
        self.times = {"count_again": site}[operator]

    def total(self, x: Any) -> Any:
        return self.times * super().total(x)


class Packs(Right):
    """The second device alone holds a tensor, inside a longer vector; `size` is how much of that it claims."""

    size = 4

    def step(self, w: Any, batch: dict) -> Any:
        vectors = jax.device_put(np.arange(12.0).reshape(2, 6), NamedSharding(self.jax_mesh, P("tensor")))
        packed = Packed(value=vectors, start=1, size=self.size, placements={"tensor": "O(1)"}, shape=(2, 2))
        return w, {"outputs/second": packed}


class PacksTooLittle(Packs):
    size = 3


class Remembers(Right):
    """Wrong by as many times as its process has seen dtypes."""

    seen: set[str] = set()  # noqa: RUF012 - the state that must not be there

    def place(self, parameters: dict, mesh: Any) -> Any:
        self.seen.add(self.dtype)
        return super().place(parameters, mesh)

    def total(self, x: Any) -> Any:
        return len(self.seen) * super().total(x)


class Deadlocks(Right):
    """Device 0 waits in a sum in which the others take no part."""

    def total(self, x: Any) -> Any:
        return lax.cond(lax.axis_index("tensor") == 0, lambda y: lax.psum(y, "tensor"), lambda y: y, x)


class Aborts(Right):
    def step(self, w: Any, batch: dict) -> Any:
        print("about to abort", flush=True)
        os.abort()


class AbortsLater(Doubled, Right):
    """Its first step is wrong, and in the second it aborts."""

    def step(self, w: Any, batch: dict) -> Any:
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 2:
            os.abort()
        return super().step(w, batch)


class RaisesLater(Right):
    """Its first step is right, and the second raises."""

    def step(self, w: Any, batch: dict) -> Any:
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 2:
            raise ValueError("the second step has a bug")
        return super().step(w, batch)


class SquaresTheInput(Right):
    """A bug of its own, on any mesh."""

    def on_each(self, w: Any, x: Any, mask: Any) -> Any:
        return super().on_each(w, x * x, mask)


class Exits(Right):
    def step(self, w: Any, batch: dict) -> Any:
        os._exit(3)


class LeavesProcesses(Right):
    """One of its own, and one in a session of its own, as daemons do; where they are is written into a file."""

    def step(self, w: Any, batch: dict) -> Any:
        kept = [subprocess.Popen(["sleep", "600"], start_new_session=apart) for apart in (False, True)]
        with open(os.environ["LEFT_PROCESSES"], "a") as file:
            file.write("".join(f"{process.pid}\n" for process in kept))
        return super().step(w, batch)


class Raises(Right):
    def step(self, w: Any, batch: dict) -> Any:
        print("about to raise", flush=True)
        raise ValueError("the step has a bug")


class EatsMemory(Right):
    def step(self, w: Any, batch: dict) -> Any:
        eaten = []
        while True:
            eaten.append(np.ones(2**23))  # 64 MiB, touched
            time.sleep(0.01)


class Refuses(Right):
    def place(self, parameters: dict, mesh: Any) -> Any:
        raise Unsupported("Seven heads cannot be divided over two devices.")


class WrongBlock(Right):
    """Has eight rows, and an index map of six."""

    def step(self, w: Any, batch: dict) -> Any:
        return w, {"outputs/y": Reordered(value=jnp.ones((8, 2)), shape=(8, 2), index_map={0: np.arange(6)})}


class OnlyState(Right):
    """A step that forgets its observations."""

    def step(self, w: Any, batch: dict) -> Any:
        return w


class Shapes(Right):
    """Values of every kind, for the tests of observation; stored in a fixed dtype and placement."""

    def step(self, w: Any, batch: dict) -> Any:
        def put(value: Any, *spec: Any) -> jax.Array:
            return jax.device_put(value, NamedSharding(self.jax_mesh, P(*spec)))

        padded = np.array([0, 1, 2, 3, 4, 5, -1, -1])
        repeated = np.array([0, 0, 1, 1, 2, 2, 3, 3])
        return w, {
            "number": 2.5,
            "array": np.array([-0.0, np.nan]),
            "signs": put(np.array([-0.0, 0.0, np.nan])),
            "rows": put(np.arange(16.0).reshape(8, 2), "tensor"),
            "narrow": put(jnp.arange(8, dtype=jnp.bfloat16) / 3, "tensor"),
            "padded": Reordered(
                value=put(np.where(padded < 0, 9.0, padded), "tensor"), shape=(6,), index_map={0: padded}
            ),
            "repeated": Reordered(value=put(repeated * 1.0, "tensor"), shape=(4,), index_map={0: repeated}),
            "one device": jax.device_put(np.arange(3.0), self.jax_mesh.devices.flat[1]),
        }


class Plain(Right):
    """Nothing but plain numbers: no device is seen to hold anything."""

    def step(self, w: Any, batch: dict) -> Any:
        return w, {"loss": 1.0}

    def collect(self, w: Any) -> Any:
        return {"parameters/w": np.asarray(w)}


class Typed(Right):
    """The same with the types of `check_vma=True`, which differentiation has casts for."""

    def place(self, parameters: dict, mesh: Any) -> Any:
        self.jax_mesh = mesh
        self.program = jax.jit(
            jax.shard_map(self.on_each, mesh=mesh, in_specs=(P(), P("tensor"), P("tensor")), out_specs=(P(), P(), P()))
        )
        return jax.device_put(parameters["w"].astype(self.dtype), NamedSharding(mesh, P()))

    def on_each(self, w: Any, x: Any, mask: Any) -> Any:
        loss, gradient = jax.value_and_grad(lambda w: lax.psum(_loss(w, x, mask), "tensor"))(w)
        return w - gradient, loss, gradient


class Scanned(Typed):
    """The rows in turn, by a loop."""

    def on_each(self, w: Any, x: Any, mask: Any) -> Any:
        def loss(w: Any) -> Any:
            def turn(total: Any, row: Any) -> Any:
                return total + lax.psum(_loss(w, *row), "tensor"), None

            return lax.scan(turn, jnp.zeros((), w.dtype), (x[:, None], mask[:, None]))[0]

        value, gradient = jax.value_and_grad(loss)(w)
        return w - gradient, value, gradient


class Branched(Typed):
    """Each rank takes a branch of its own, in a loop."""

    def on_each(self, w: Any, x: Any, mask: Any) -> Any:
        rank = lax.axis_index("tensor")

        def turn(total: Any, _: Any) -> Any:
            return lax.cond(rank == 0, lambda t: t + w / 20, lambda t: t - w / 20, total), None

        moved = lax.psum(lax.scan(turn, jnp.zeros_like(w) + 0 * x.sum(), None, length=20)[0], "tensor")
        loss, gradient = jax.value_and_grad(lambda w: lax.psum(_loss(w, x, mask), "tensor"))(w)
        return w - gradient + moved, loss, gradient
