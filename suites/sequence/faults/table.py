"""Every fault and negative control of sequence and context parallelism, and the mechanisms that it cannot have."""

from __future__ import annotations

from conformance.cases.fault import Fault
from suites.sequence.faults.table_context import ATTENTION, PLACES
from suites.sequence.faults.table_precision import PRECISION
from suites.sequence.faults.table_tokens import LOSSES, TOKENS
from suites.sequence.faults.targets import CUBE, FLAT, LONG, ring, tokens, zigzag

CONTROLS = (
    Fault(
        id="ring-the-other-way",
        summary="Keys and values go round the ring backwards.",
        bites="never",
        planted=ring("controls:PassedTheOtherWay"),
        contract="sequence/context_layer",
        meshes=("data=2,sequence=4", "data=2,tensor=2,sequence=2"),
        axis=None,
        control=True,
    ),
    Fault(
        id="merged-in-other-order",
        summary="The arriving partial result is the first operand of the merge instead of the second.",
        bites="never",
        planted=zigzag("controls:MergedInOtherOrder"),
        contract="sequence/attention_wide",
        meshes=LONG,
        axis=None,
        control=True,
    ),
    Fault(
        id="sum-then-split",
        summary="A reduce-scatter is a sum, of which each rank keeps its tokens.",
        bites="never",
        planted=tokens("controls:SumThenSplit"),
        contract="sequence/layer",
        meshes=(*FLAT, *CUBE),
        axis=None,
        control=True,
    ),
)

FAULTS = TOKENS + LOSSES + ATTENTION + PLACES + PRECISION + CONTROLS

NOT_APPLICABLE = {
    "recurrent-or-conv-state-not-passed-across-shards": "no layer here carries a state along the row",
    "inserted-padding-counted-by-router": "needs a router: for the mixture-of-experts suite",
    "moe-aux-loss-scale-depends-on-topology": "needs a router: for the mixture-of-experts suite",
    "allgather-backward-drops-noncontiguous-buffer": "planted in the tensor suite, where gathers are along features",
}
