"""Every fault and negative control of collectives."""

from __future__ import annotations

from typing import Any

from conformance.cases.fault import Fault
from suites.collectives.faults import table_combining
from suites.collectives.faults.table_native import EXACT, MISSING, NATIVE
from suites.collectives.faults.targets import PLANE, UNEVEN, by_algorithm


def _fault(name: str, summary: str, bites: str, planted: dict[str, str], contract: str, **fields: Any) -> Fault:
    return Fault(
        id=name,
        summary=summary,
        bites=bites,
        planted=planted,
        contract=f"collectives/{contract}",
        **{"meshes": PLANE, "axis": "tensor", "seen_by": EXACT, **fields},
    )


ALGORITHMS = (
    _fault(
        "ring-sends-all-that-it-has",
        "In every round of a gather a device sends on all blocks that it has, not the newest one.",
        "always; every number is right, and more bytes are sent than there need be",
        by_algorithm("ring", "SendsAllThatItHas"),
        "all_gather",
        causes=("of another size",),
        seen_by=("communication",),
    ),
    _fault(
        "ring-step-lost",
        "The loop over a ring ends one step early.",
        "always",
        by_algorithm("ring", "LastRoundLost"),
        "all_gather",
        causes=MISSING,
    ),
    _fault(
        "ring-sum-step-lost",
        "A reduce-scatter round a ring ends one step early: the operand of one device is missing.",
        "always",
        by_algorithm("ring", "LastRoundLost"),
        "reduce_scatter",
        causes=MISSING,
    ),
    _fault(
        "ring-blocks-rolled",
        "Block numbers of a reduce-scatter are one too large, everywhere alike.",
        "always",
        by_algorithm("ring", "BlocksRolled"),
        "reduce_scatter",
    ),
    _fault(
        "ring-direction-mistaken",
        "Messages go to the previous device, labelled as if they came from there.",
        "a ring of more than two",
        by_algorithm("ring", "RingReversed"),
        "all_gather",
    ),
    _fault(
        "gather-adds-to-partial-sums",
        "What is gathered after a reduce-scatter is added to the partial sums that lie there.",
        "always",
        by_algorithm("halving", "GatherAdds"),
        "all_reduce_sum",
    ),
    _fault(
        "remainder-not-folded",
        "The devices beyond a power of two do not hand over what they have.",
        "a number of devices that is no power of two",
        by_algorithm("halving", "RemainderNotFolded"),
        "all_reduce_sum",
        meshes=UNEVEN,
    ),
    _fault(
        "tree-of-powers-of-two",
        "The children of a tree beyond the largest power of two are forgotten.",
        "a number of devices that is no power of two",
        by_algorithm("tree", "TreeOfPowersOfTwo"),
        "all_reduce_sum",
        meshes=UNEVEN,
    ),
    _fault(
        "tree-level-lost",
        "A broadcast down a tree does not reach its leaves.",
        "always",
        by_algorithm("tree", "LastRoundLost"),
        "all_reduce_sum",
    ),
    _fault(
        "nodes-apart",
        "Each node sums for itself: nothing is sent across nodes.",
        "always",
        by_algorithm("hierarchical", "NodesApart"),
        "all_reduce_sum",
        causes=MISSING,
    ),
    _fault(
        "sum-overwrites",
        "What arrives takes the place of what is there, instead of being added to it.",
        "always",
        by_algorithm("direct", "SumOverwrites"),
        "all_reduce_sum",
    ),
    _fault(
        "one-axis-a-step-short",
        "On each of two axes the last round is lost.",
        "always",
        by_algorithm("per_axis", "LastRoundLost"),
        "all_reduce_sum_2d",
        meshes=("data=2,tensor=3",),
        axis=None,
    ),
)


def _control(name: str, summary: str, planted: dict[str, str], contract: str, dtype: Any = "float64") -> Fault:
    return Fault(
        id=name,
        summary=summary,
        bites="never",
        planted=planted,
        contract=f"collectives/{contract}",
        meshes=PLANE,
        dtype=dtype,
        axis=None,
        control=True,
    )


CONTROLS = (
    _control(
        "ring-the-other-way", "The ring runs the other way.", by_algorithm("ring", "OtherWayRound"), "all_reduce_sum"
    ),
    _control(
        "ring-the-other-way-in-bfloat16",
        "The ring runs the other way, in bfloat16.",
        by_algorithm("ring", "OtherWayRound"),
        "reduce_scatter",
        "bfloat16",
    ),
    _control(
        "messages-in-another-order",
        "The messages of a round are posted, and what arrives is added, in the opposite order.",
        by_algorithm("direct", "MessagesInOtherOrder"),
        "all_reduce_sum",
    ),
)

FAULTS = NATIVE + ALGORITHMS + table_combining.COMBINING + CONTROLS + table_combining.CONTROLS
