"""JAX on one device in place of a mesh: the state lies on emulated host devices, every step runs on one real device.

The traced step, differentiation inside, is evaluated with every shard_map as nested `vmap` (`trace/jax_one_device`).
What goes in and what comes out are the blocks of all ranks, so that everything is read as on a mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from conformance.cases.case import Case, Mutation
from conformance.cases.raised import said
from conformance.contract.contract import Arrays
from conformance.contract.implementation import Implementation, Unsupported
from conformance.evidence.intermediates import Intermediates
from conformance.trace.jax_one_device import NothingToDivideError
from conformance.trace.jax_spread import Spread, SpreadLayout, is_spread, whole
from conformance.trace.jax_trace import Program
from conformance.trace.jax_unreadable import UnreadableCollectiveError
from conformance.workers.jax_platform import JaxPlatform
from conformance.workers.platform import Step, TracedStep

UNTRACEABLE = (jax.errors.JAXTypeError, jax.errors.JAXIndexError)  # the step looks at values


class JaxSinglePlatform(JaxPlatform):
    """Host devices hold the blocks; the first device that JAX shows computes."""

    def __init__(self) -> None:
        super().__init__()
        self.mesh_devices, self.chip = jax.devices("cpu"), jax.devices()[0]

    def prepared(self, implementation: Implementation, case: Case) -> Implementation:
        """The implementation, whose step runs on the one device."""
        step = implementation.step
        implementation.step = OneDeviceStep(step, case, self.device_mesh(case), self.chip)  # type: ignore[method-assign]
        return implementation

    def watched(self, step: Step, state: Any, batch: Arrays, case: Case) -> tuple[Any, TracedStep]:
        assert isinstance(step, OneDeviceStep)
        return super().watched(step.on_mesh, state, batch, case)

    def mutated(self, step: Step, state: Any, batch: Arrays, case: Case) -> Step:
        assert isinstance(step, OneDeviceStep)
        mutant = OneDeviceStep(step.on_mesh, case, self.device_mesh(case), self.chip, case.mutation)
        mutant.compiled(state, batch)  # complains now
        return mutant

    def values(self, step: Step, state: Any, batch: Arrays, case: Case) -> Intermediates | None:
        """Not seen: the values inside a nested `vmap` are those of no rank."""
        return None

    def reference_values(self, step: Step, state: Any, batch: Arrays) -> Intermediates | None:
        return None


class OneDeviceStep:
    """A step on blocks of all ranks -> the same, evaluated on `chip`; compiled once per shapes.

    on_mesh   the step as the implementation has it
    Raises Unsupported for a step that cannot be traced as a whole, or that a shard_map does not divide.
    """

    def __init__(
        self, on_mesh: Step, case: Case, mesh: jax.sharding.Mesh, chip: jax.Device, mutation: Mutation | None = None
    ) -> None:
        self.on_mesh, self.mesh, self.chip = on_mesh, mesh, chip
        self._case, self._mutation = case, mutation
        self._compiled: dict[Any, Step] = {}

    def __call__(self, state: Any, batch: Arrays) -> tuple[Any, Mapping[str, Any]]:
        run = self.compiled(state, batch)
        state, seen = run(*jax.tree_util.tree_map(self._taken, (state, batch)))
        returned: tuple[Any, Any] = jax.tree_util.tree_map(self._returned, (state, seen), is_leaf=is_spread)
        return returned

    def compiled(self, state: Any, batch: Arrays) -> Step:
        """The program for arguments of these shapes."""
        leaves, tree = jax.tree_util.tree_flatten((state, batch))
        key = tree, tuple((leaf.shape, str(leaf.dtype)) for leaf in map(_described, leaves))
        if key not in self._compiled:
            self._compiled[key] = _traced(
                lambda: Program(self.on_mesh, state, batch, self._case.mesh).on_one_device(self._mutation)
            )
        return self._compiled[key]

    def _taken(self, leaf: Any) -> Any:
        """What lies on the mesh, as blocks on the one device; what does not, as it is."""
        sharding = getattr(leaf, "sharding", None)
        if not isinstance(sharding, NamedSharding) or sharding.mesh.axis_names != self.mesh.axis_names:
            return jax.device_put(leaf, self.chip)
        on = {shard.device: shard.data for shard in leaf.addressable_shards}
        blocks = [np.asarray(on[device]) for device in self.mesh.devices.flat]
        stacked = np.stack(blocks).reshape(*self.mesh.devices.shape, *blocks[0].shape)
        layout = SpreadLayout.of(sharding.spec, leaf.ndim, tuple(self.mesh.shape.items()))
        return Spread(blocks=jax.device_put(stacked, self.chip), layout=layout)

    def _returned(self, value: Any) -> Any:
        """The blocks on their devices; a whole tensor is the same on all of them."""
        axes = tuple(self.mesh.shape.items())
        if isinstance(value, Spread) and value.layout.axes == axes:
            sharding = NamedSharding(self.mesh, value.layout.spec)
            blocks = np.asarray(value.blocks).reshape(-1, *value.block_shape)
            pairs = zip(blocks, self.mesh.devices.flat, strict=True)
            shards = [jax.device_put(block, device) for block, device in pairs]
            return jax.make_array_from_single_device_arrays(value.shape, sharding, shards)
        return jax.device_put(np.asarray(whole(value)), NamedSharding(self.mesh, PartitionSpec()))


def _described(leaf: Any) -> Any:
    return leaf if hasattr(leaf, "dtype") else np.asarray(leaf)


def _traced(trace: Callable[[], Step]) -> Step:
    try:
        return trace()
    except (NothingToDivideError, UnreadableCollectiveError) as refusal:
        raise Unsupported(str(refusal)) from refusal
    except UNTRACEABLE as failure:
        raise Unsupported(
            f"The step cannot be traced as a whole ({said(failure)}), which one device in place of a mesh needs."
        ) from failure
