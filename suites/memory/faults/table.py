"""Every fault and negative control of the policies of memory."""

from __future__ import annotations

from conformance.cases.fault import Fault
from suites.tensor.faults.targets import github

JAX, TORCH = "jax-shard_map", "torch-collectives"
_FOLDER = "suites.memory.faults"
CROSSED = ("data=2,tensor=2",)


def each(mixin: str) -> dict[str, str]:
    """One mixin for each framework, of the same name."""
    return {JAX: f"{_FOLDER}.in_jax:{mixin}", TORCH: f"{_FOLDER}.in_torch:{mixin}"}


FAULTS = (
    Fault(
        id="recompute-with-other-dropout-mask",
        summary="A layer that is computed again draws another mask: value and gradient are of different samples.",
        bites="dropout and recompute",
        sources=github("allenai/OLMo-core#828", "pytorch/pytorch#190758"),
        planted={
            JAX: "suites.data.faults.in_jax:OtherMaskInBackward",
            TORCH: "suites.data.faults.in_torch:OtherMaskInBackward",
        },
        contract="memory/dropout",
        meshes=CROSSED,
        axis=None,
        causes=("another mask than on", "without recompute"),
    ),
    Fault(
        id="recompute-loses-a-sum",
        summary="A layer that is computed again leaves out its sums over the tensor axis.",
        bites="recompute, tensor > 1; the loss is right",
        planted=each("SumLostInBackward"),
        contract="memory/layer",
        meshes=CROSSED,
        axis=None,
        causes=("without recompute", "reduction missing", "all_reduce missing"),
    ),
    Fault(
        id="state-not-donated",
        summary="The step is said to take over its state, and makes a new one beside it.",
        bites="always; no value changes",
        planted=each("StateNotDonated"),
        contract="memory/kept",
        meshes=CROSSED,
        axis=None,
        causes=("the state is not donated",),
        seen_by=("memory",),
    ),
    Fault(
        id="read-after-donation",
        summary="The parameters of before the step are read after the step has taken them over.",
        bites="always: JAX refuses to read what it has given away",
        planted={JAX: f"{_FOLDER}.in_jax:ReadAfterDonation"},
        contract="memory/kept",
        meshes=CROSSED,
        axis=None,
        seen_by=("error",),
    ),
    Fault(
        id="buffer-reused-too-early",
        summary="The gradients of all slices are written to the same buffers before they are added up.",
        bites="accumulation > 1",
        planted={TORCH: f"{_FOLDER}.in_torch:BufferReusedTooEarly"},
        contract="memory/accumulation",
        meshes=CROSSED,
        axis=None,
        causes=("without accumulation", "not count", "count wrongly"),
    ),
    Fault(
        id="stale-host-buffer",
        summary="What returns from host memory is what the step before put there.",
        bites="the second slice or step, where something is spilled",
        planted={TORCH: f"{_FOLDER}.in_torch:StaleHostBuffer"},
        contract="memory/spilled",
        meshes=CROSSED,
        axis=None,
        seen_by=("trajectory",),
    ),
    Fault(
        id="recomputed-twice",
        summary="A layer that is computed again lies in another one that is.",
        bites="never",
        planted=each("RecomputedTwice"),
        contract="memory/layer",
        meshes=CROSSED,
        axis=None,
        control=True,
    ),
    Fault(
        id="everything-spilled",
        summary="The threshold is one byte: every activation goes to host memory and comes back.",
        bites="never",
        planted=dict.fromkeys((JAX, TORCH), f"{_FOLDER}.spilling:EverythingSpilled"),
        contract="memory/spilled",
        meshes=CROSSED,
        axis=None,
        control=True,
    ),
)

NOT_APPLICABLE = {
    "donated-buffer-read-as-garbage": "JAX marks what it has given away as deleted and refuses to read it; torch has "
    "no donation, and what is read after an update in place is the new value",
    "offloaded-optimizer-state-not-copied-back": "the state is on the device between steps; only activations are "
    "spilled, within one step",
}
