"""The table of faults: values are right, and devices hold more than is declared."""

from __future__ import annotations

from conformance.cases.fault import Fault
from suites.data.faults.targets import HYBRID, UNEVEN, both

_IN_JAX, _IN_TORCH = "suites.data.faults.memory_in_jax", "suites.data.faults.memory_in_torch"


def _each(way: str, mixin: str) -> dict[str, str]:
    return {f"jax-{way}": f"{_IN_JAX}:{mixin}", f"torch-{way}": f"{_IN_TORCH}:{mixin}"}


MEMORY = (
    Fault(
        id="gradients-without-out-shardings",
        summary="The step says nothing of how its gradients lie, and they leave it whole on every device.",
        bites="always; no value changes",
        sources=("https://docs.jax.dev/en/latest/_autosummary/jax.jit.html",),
        planted={"jax-automatic": f"{_IN_JAX}:GradientsWithoutSharding"},
        contract="data/language_model",
        meshes=HYBRID,
        axis="fsdp",
        causes=("replicated where its placement divides it",),
        seen_by=("memory",),
    ),
    Fault(
        id="gradients-kept-whole",
        summary="Gradients are summed and not scattered, and stay whole until each rank updates its shard.",
        bites="always; no value changes",
        planted=both("zero2", "memory:GradientsKeptWhole"),
        contract="data/language_model",
        meshes=(*HYBRID, *UNEVEN),
        axis="fsdp",
        causes=("replicated where its placement divides it",),
        seen_by=("memory",),
    ),
    Fault(
        id="gradients-kept-in-float32",
        summary="Gradients that the recipe keeps in bfloat16 are kept in float32.",
        bites="a policy with narrow gradients; no value is farther off",
        planted=both("zero3", "memory:GradientsKeptWide"),
        contract="data/policy_bfloat16_compute",
        meshes=HYBRID,
        dtype="bfloat16",
        axis=None,
        causes=("kept in a wider dtype",),
        seen_by=("memory",),
    ),
    Fault(
        id="optimizer-slot-replicated",
        summary="The optimizer slots of the embedding lie whole on every rank.",
        bites="always; no value changes",
        planted=both("zero1", "memory:EmbeddingSlotsKeptWhole") | {"jax-automatic": f"{_IN_JAX}:SlotsWithoutSharding"},
        contract="data/language_model",
        meshes=HYBRID,
        axis="fsdp",
        causes=("replicated where its placement divides it",),
        seen_by=("memory",),
    ),
    Fault(
        id="master-weights-kept-whole",
        summary="Parameters are sharded, and the master copy that the optimizer updates is whole on every rank.",
        bites="always; no value changes",
        planted=both("zero3", "memory:SlotsKeptWhole"),
        contract="data/policy_master",
        meshes=HYBRID,
        dtype="bfloat16",
        axis="fsdp",
        causes=("replicated where its placement divides it",),
        seen_by=("memory",),
    ),
    Fault(
        id="batch-whole-on-every-rank",
        summary="Every rank is given the whole batch and takes its rows when the step has begun.",
        bites="always; no value changes",
        planted=_each("data_parallel", "BatchOnEveryRank"),
        contract="data/language_model",
        meshes=HYBRID,
        axis=None,
        causes=("replicated where its placement divides it",),
        seen_by=("memory",),
    ),
    Fault(
        id="parameters-kept-twice",
        summary="The state keeps a second copy of the parameters, which nothing reads.",
        bites="always; no value changes",
        planted=_each("zero3", "ParametersKeptTwice"),
        contract="data/language_model",
        meshes=HYBRID,
        axis=None,
        causes=("parameters kept twice",),
        seen_by=("memory",),
    ),
)

MEMORY_CONTROLS = (
    Fault(
        id="gradients-whole-as-declared",
        summary="Gradients are whole until the update, and the implementation says so.",
        bites="never",
        planted=both("zero2", "memory:GradientsWholeAsDeclared"),
        contract="data/language_model",
        meshes=HYBRID,
        axis=None,
        control=True,
    ),
    Fault(
        id="layout-not-declared",
        summary="Nothing is said of how tensors lie; in torch, gradients are whole besides.",
        bites="never",
        planted={"jax-automatic": f"{_IN_JAX}:NothingDeclared", "torch-zero2": f"{_IN_TORCH}:NothingDeclared"},
        contract="data/language_model",
        meshes=HYBRID,
        axis=None,
        control=True,
    ),
    Fault(
        id="state-handed-over-as-copies",
        summary="What is collected are copies of what is kept, each made for that.",
        bites="never",
        planted=_each("zero3", "StateHandedOverAsCopies"),
        contract="data/language_model",
        meshes=HYBRID,
        axis=None,
        control=True,
    ),
)
