"""The table of faults, third part: gradients that are summed in bfloat16 where float32 is kept."""

from __future__ import annotations

from conformance.cases.fault import Fault
from suites.sequence.faults.targets import FLAT, LONG, each

PRECISION = (
    Fault(
        id="partial-gradients-summed-in-bfloat16",
        summary="What is replicated over the tensor axis has its gradients summed there in bfloat16.",
        bites="products in bfloat16; parts of the row whose gradients cancel",
        planted=each("tokens", "TensorSumsInBfloat16"),
        contract="sequence/opposed",
        meshes=FLAT,
        dtype="bfloat16",
        axis="tensor",
        causes=("reduced in bfloat16",),
        seen_by=("numerics",),
    ),
    Fault(
        id="token-gradients-summed-in-bfloat16",
        summary="Gradients are reduced in bfloat16 over the axes of rows and tokens without declaring it.",
        bites="products in bfloat16; parts of the row whose gradients cancel",
        planted=each("ring", "ReducedInBfloat16", "suites.data.faults"),
        contract="sequence/opposed",
        meshes=LONG,
        dtype="bfloat16",
        axis=None,
        causes=("reduced in bfloat16",),
        seen_by=("numerics",),
    ),
    Fault(
        id="ring-gradients-in-bfloat16",
        summary="Gradients of keys and values go round the ring in bfloat16, and are rounded at every step.",
        bites="products in bfloat16; queries that move keys apart",
        planted=each("ring", "KeyGradientsInBfloat16"),
        contract="sequence/opposed_queries",
        meshes=LONG,
        dtype="bfloat16",
        axis="sequence",
        causes=("goes away when the axis has size 1", "backward permute in bfloat16, where"),
        seen_by=("numerics", "trajectory"),
    ),
)
