"""A capture in JAX: trees are handed over step by step, and each process writes down what its devices hold of them."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes  # noqa: F401 - teaches numpy the name bfloat16
import numpy as np
from jax.experimental import multihost_utils

from conformance.capture.jax_held import Devices, parts_of
from conformance.capture.names import first_match
from conformance.capture.records import RankRecord
from conformance.capture.request import Request
from conformance.capture.writer import Writer
from conformance.evidence.tolerance import EPSILON


class JaxCapture:
    """The context that `conformance.capture` gives in JAX; one in every process. `model` is what to train."""

    def __init__(self, request: Request, *, model: Any, optimizer: Any, mesh: Any) -> None:
        if request.orders.dtype == "float64" and not jax.config.read("jax_enable_x64"):
            raise ValueError("A float64 capture needs JAX's 64-bit mode: leave jax_enable_x64 as the recorder set it.")
        self.request, self.devices = request, Devices.of(mesh)
        self._module = model if _is_module(model) else None
        given = _pure(model)
        self._given_dtype = _floating(given)
        self._tree = _mapped(given, "model", self._moved)
        if self._module is not None:
            _update(self._module, self._tree)
        self.model = model if self._module is not None else self._tree
        self.optimizer = _mapped(optimizer, "optimizer", self._cast)
        self._taken = self._calls = 0

    def __enter__(self) -> JaxCapture:
        self._names = {name for name, _ in _leaves(self._tree)}
        self._writer = Writer(self.request.folder, self._record())
        self._writer.open("start")
        self._add_tree("parameters/", self._tree)
        self._writer.close()
        self._writer.open("step 1")
        return self

    def __exit__(self, kind: Any, *broken: Any) -> None:
        self._writer.update(finished=kind is None)
        if jax.process_index() == 0:
            print(self._writer.said(), flush=True)

    def batch(self, batch: Any) -> Any:
        """What a forward pass is given, before it is: the same again, or moved where a recorder asks for that."""
        if not self._open:
            return batch
        moved = _mapped(batch, f"{self._taken}.{self._calls}", self._moved)
        with self._writer.busy():
            for name, value in _leaves(moved):
                if np.ndim(value):
                    self._add(f"batch/{name or 'inputs'}", value, call=self._calls)
            self._calls += 1
        return moved

    def step(
        self,
        *,
        loss: Any = None,
        gradients: Any = None,
        clipped: Any = None,
        model: Any = None,
        optimizer: Any = None,
        outputs: Any = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """A step that is over: its loss, what it made, the gradients before and after clipping, and the new state."""
        if not self._open:
            return
        with self._writer.busy():
            self._add_tree("outputs/", outputs)
            if loss is not None:
                self._add("loss", loss)
            self._add_tree("gradients/", gradients, backwards=True)
            self._add_tree("metrics/", metrics)
            self._add_tree("clipped/", clipped, backwards=True)
            self._add_optimizer(self.optimizer if optimizer is None else optimizer)
            self._add_tree("parameters/", self.model if model is None else model)
        self._writer.close(recipe={"accumulation": max(self._calls, 1)}, lower=self._lower())
        self._taken, self._calls = self._taken + 1, 0
        if self._open:
            self._writer.open(f"step {self._taken + 1}")

    @property
    def _open(self) -> bool:
        return self._taken < self.request.steps

    def _lower(self) -> list[dict[str, str]]:
        """What a float64 run hands over in fewer bits: some of it was computed so."""
        narrow = self._writer.narrow() if self.request.orders.dtype == "float64" else {}
        return [{"operation": name, "dtype": dtype, "place": ""} for name, dtype in list(narrow.items())[:1]]

    def _record(self) -> RankRecord:
        run = np.frombuffer(uuid.uuid4().bytes, np.uint8)
        if jax.process_count() > 1:
            run = np.asarray(multihost_utils.broadcast_one_to_all(run))
        return RankRecord(
            run=run.astype(np.uint8).tobytes().hex(),
            framework="jax",
            process=jax.process_index(),
            processes=jax.process_count(),
            mesh=dict(self.devices.mesh.sizes),
            positions=self.devices.own,
            dtype=_floating(self._tree),
            given_dtype=self._given_dtype,
            **self.request.fields(),
        )

    def _add_tree(self, kind: str, tree: Any, *, backwards: bool = False) -> None:
        leaves = list(_leaves(_pure(tree)))
        for name, value in reversed(leaves) if backwards else leaves:
            self._add(f"{kind}{name or 'value'}", value)

    def _add_optimizer(self, tree: Any) -> None:
        """A leaf whose path ends in the name of a parameter is a slot of it: `optimizer/0.mu/<parameter>`."""
        for path, value in _leaves(_pure(tree)):
            parts = path.split(".")
            tails = [".".join(parts[start:]) for start in range(1, len(parts))]
            own = next((tail for tail in tails if tail in self._names), None)
            self._add(f"optimizer/{path}" if own is None else f"optimizer/{path[: -len(own) - 1]}/{own}", value)

    def _add(self, name: str, value: Any, *, call: int | None = None) -> None:
        own = name.split("/", 2 if name.startswith("optimizer/") else 1)[-1]
        said = first_match(f"modules/{own}" if name.startswith("outputs/") else own, self.request.placements)
        dtype, shape, parts = parts_of(value, self.devices)
        self._writer.add(name, dtype, shape, parts, placements=None if said is None else dict(said), call=call)

    def _cast(self, value: Any, what: str) -> Any:
        dtype = self.request.orders.dtype
        if dtype is None or not _is_floating(value):
            return value
        return _like(jnp.asarray(value).astype(dtype), value)

    def _moved(self, value: Any, what: str) -> Any:
        """Every element by one unit in its last place, up, down or not at all; the same in every run of a member."""
        orders, value = self.request.orders, self._cast(value, what)
        if not orders.member or not _is_floating(value):
            return value
        rng = np.random.default_rng([orders.member, zlib.crc32(what.encode())])
        own = np.dtype(value.dtype)
        epsilon = EPSILON.get(orders.rounding or own.name, EPSILON["bfloat16"])
        wide = np.asarray(value).astype(np.float64) * (1 + rng.integers(-1, 2, np.shape(value)) * epsilon)
        return _like(jnp.asarray(wide.astype(own)), value)


def _like(new: Any, old: Any) -> Any:
    """On the devices where the old one was."""
    return jax.device_put(new, old.sharding) if isinstance(old, jax.Array) else new


def _is_module(model: Any) -> bool:
    import sys

    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(model, nnx.Module)


def _pure(tree: Any) -> Any:
    """The parameters of an `nnx.Module` as a tree of arrays; any other tree as it is."""
    if not _is_module(tree):
        return tree
    from flax import nnx

    return nnx.to_pure_dict(nnx.state(tree, nnx.Param))


def _update(module: Any, tree: Any) -> None:
    from flax import nnx

    state = nnx.state(module, nnx.Param)
    nnx.replace_by_pure_dict(state, tree)
    nnx.update(module, state)


def _is_floating(value: Any) -> bool:
    return hasattr(value, "dtype") and bool(jnp.issubdtype(value.dtype, jnp.floating))


def _floating(tree: Any) -> str:
    """The dtype of the first real leaf."""
    dtypes = (np.dtype(leaf.dtype).name for _, leaf in _leaves(tree) if _is_floating(leaf))
    return next(dtypes, "float32")


def _mapped(tree: Any, what: str, change: Callable[[Any, str], Any]) -> Any:
    def leaf(path: Any, value: Any) -> Any:
        return change(value, f"{what}.{_spoken(path)}")

    return jax.tree_util.tree_map_with_path(leaf, tree)


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Path -> number or array, in the tree's own order; keys of random numbers and other things are left out."""
    for path, value in jax.tree_util.tree_flatten_with_path(tree)[0]:
        dtype = getattr(value, "dtype", None)
        if isinstance(value, (int, float)) or (dtype is not None and not jnp.issubdtype(dtype, jax.dtypes.extended)):
            yield _spoken(path), value


def _spoken(path: tuple[Any, ...]) -> str:
    """`layers.0.w` of a path in a tree."""
    words = (
        next((getattr(key, field) for field in ("key", "idx", "name") if hasattr(key, field)), key) for key in path
    )
    return ".".join(str(word) for word in words)
