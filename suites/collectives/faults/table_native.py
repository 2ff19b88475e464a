"""The table of faults: single collectives, their gradients, and what does not divide."""

from __future__ import annotations

from typing import Any

from conformance.cases.fault import Fault
from suites.collectives.faults.targets import PLANE, SQUARE, UNEVEN, github, in_torch, native

EXACT = ("exact",)
MISPLACED = ("permuted", "shifted", "another order")
MISSING = ("missing", "misses", "partial", "something local", "not combined", "own operand")


def _fault(name: str, summary: str, bites: str, planted: dict[str, str], contract: str, **fields: Any) -> Fault:
    return Fault(
        id=name,
        summary=summary,
        bites=bites,
        planted=planted,
        contract=f"collectives/{contract}",
        **{"meshes": PLANE, "axis": "tensor", "seen_by": EXACT, **fields},
    )


REDUCTIONS = (
    _fault(
        "sum-not-made",
        "Every device keeps what it has summed itself.",
        "always",
        native("native:NotSummed"),
        "all_reduce_sum",
        causes=MISSING,
    ),
    _fault(
        "summed-twice",
        "A sum is summed again: k times too large.",
        "always",
        native("native:SummedTwice"),
        "all_reduce_sum",
        causes=("summed twice", "done too often", "counted size-of-axis times"),
    ),
    _fault(
        "maximum-instead-of-sum",
        "The reduction is the wrong one.",
        "operands that differ",
        native("MaximumInsteadOfSum"),
        "all_reduce_sum",
    ),
    _fault(
        "largest-instead-of-smallest",
        "The largest is taken where the smallest is asked for.",
        "rows that differ",
        native("native:LargestForSmallest"),
        "all_reduce_min",
        axis=None,
    ),
    _fault(
        "sum-over-the-other-axis",
        "The sum runs over the other axis of the mesh.",
        "two axes of size above one",
        native("native:OverOtherAxis"),
        "all_reduce_sum",
        meshes=SQUARE,
        axis=None,
    ),
    _fault(
        "sum-over-all-axes",
        "The sum runs over the whole mesh, and over what others have in their lanes.",
        "two axes of size above one",
        native("native:OverAllAxes"),
        "all_reduce_sum",
        axis=None,
    ),
    _fault(
        "mean-of-all-devices",
        "A mean over one axis is divided by the devices of the other one too.",
        "a second axis",
        native("native:DividedByAllDevices"),
        "all_reduce_mean",
        axis=None,
    ),
    _fault(
        "mean-not-divided",
        "The mean over devices is their sum.",
        "always",
        native("native:MeanNotDivided"),
        "all_reduce_mean",
    ),
    _fault(
        "whole-numbers-through-float32",
        "Whole numbers are carried as float32.",
        "numbers beyond 2^24",
        native("ThroughFloat32"),
        "all_gather_int32",
        axis=None,
    ),
)

GRADIENTS = (
    _fault(
        "gradient-of-sum-not-summed",
        "A sum that all devices read is differentiated as if one of them did.",
        "every device reads the sum in a loss of its own; forward exact",
        native("GradientOfSumNotSummed"),
        "all_reduce_sum",
        causes=MISSING,
    ),
    _fault(
        "gradient-of-gather-not-reduced",
        "Every device keeps the gradient of its own reading of its own part.",
        "every device reads all parts in a loss of its own; forward exact",
        native("GradientOfGatherNotReduced"),
        "all_gather",
        sources=github("lightly-ai/lightly#1528", "pytorch/xla#5784"),
        causes=MISSING,
    ),
    _fault(
        "gradient-of-scatter-not-gathered",
        "The gradient of a part comes back to that part of one operand alone.",
        "always; forward exact",
        native("GradientOfScatterNotGathered"),
        "reduce_scatter",
        causes=MISSING,
    ),
    _fault(
        "gradient-of-exchange-not-transposed",
        "The gradient of an all-to-all puts blocks in the wrong places.",
        "always; forward exact",
        native("GradientOfExchangeNotTransposed"),
        "all_to_all",
        causes=MISPLACED,
    ),
    _fault(
        "gradient-moves-on",
        "The gradient of a permute travels the same way as the rows.",
        "a ring of more than two; forward exact",
        native("GradientMovesOn"),
        "permute_ring",
        axis=None,
    ),
    _fault(
        "gradient-of-broadcast-not-summed",
        "The device that broadcasts keeps the gradient of its own reading.",
        "always; forward exact",
        native("GradientOfBroadcastNotSummed"),
        "broadcast",
        causes=MISSING,
    ),
    _fault(
        "gradient-of-maximum-not-summed",
        "The row that has the maximum is given the gradient of its own device alone.",
        "always; forward exact",
        native("GradientOfMaximumNotSummed"),
        "all_reduce_max",
        causes=MISSING,
    ),
    _fault(
        "strided-gradient-summed-in-a-copy",
        "A strided gradient is summed in a contiguous copy, which is forgotten.",
        "a gradient in another memory order; forward exact",
        in_torch("StridedResultDiscarded"),
        "all_reduce_sum_strided",
        sources=github("NVIDIA/Megatron-LM#5337", "NovaSky-AI/SkyRL#1886", "pytorch/pytorch#120386"),
    ),
)

PLACES = (
    _fault(
        "parts-gathered-round",
        "Parts are gathered one device further round.",
        "always",
        native("PartsRolled"),
        "all_gather",
        causes=MISPLACED,
    ),
    _fault(
        "part-of-the-next-device",
        "Every device is given the part of the next one.",
        "always",
        native("ScatteredToNext"),
        "reduce_scatter",
        causes=MISPLACED,
    ),
    _fault(
        "blocks-exchanged-round",
        "Blocks of an all-to-all are taken one device further round.",
        "always",
        native("BlocksRolled"),
        "all_to_all",
        causes=MISPLACED,
    ),
    _fault(
        "permuted-the-other-way",
        "Every message travels from its destination to its source.",
        "a ring of more than two",
        native("native:PermutedTheOtherWay"),
        "permute_ring",
        axis=None,
    ),
    _fault(
        "rows-not-exchanged",
        "Mirrored devices exchange nothing, each turns its own rows round.",
        "always",
        native("native:NotPermuted"),
        "permute_reverse",
        axis=None,
    ),
    _fault(
        "open-end-closed",
        "The last device sends to the first, where nothing should arrive.",
        "always; one row of all",
        native("native:OpenEndClosed"),
        "permute_open",
        axis=None,
    ),
    _fault(
        "broadcast-from-the-first",
        "The first device of a group broadcasts, whoever has the row.",
        "a source that is not the first",
        native("native:BroadcastFromFirst"),
        "broadcast",
    ),
    _fault(
        "broadcast-by-global-rank",
        "The source of a broadcast is meant as a rank of the group, and taken as a process of the world.",
        "groups that do not begin with process 0",
        in_torch("SentByGlobalRank"),
        "broadcast",
        sources=github("pytorch/pytorch#130515", "meta-pytorch/torchrec#4601"),
        axis=None,
    ),
    _fault(
        "axes-nested-the-other-way",
        "Parts are gathered over two axes with the first of them counting fastest.",
        "two axes at once",
        {"jax-shard_map": "suites.collectives.faults.native:AxesNestedTheOtherWay"},
        "all_gather_2d",
        meshes=("data=2,tensor=3",),
        axis=None,
    ),
)

UNEVEN_SIZES = (
    _fault(
        "last-feature-dropped",
        "Features that do not divide are cut off.",
        "a number of features that does not divide",
        native("LastFeatureDropped"),
        "reduce_scatter_uneven",
        meshes=UNEVEN,
        axis=None,
    ),
    _fault(
        "padding-takes-part",
        "The zeros that fill up the last devices take part in the maximum.",
        "a number of rows that does not divide, and a maximum below zero",
        native("native:PaddingTakesPart"),
        "all_reduce_max_uneven",
        meshes=UNEVEN,
        axis=None,
    ),
    _fault(
        "padding-is-trained",
        "What fills up the last devices is updated, and joins the sum of the next step.",
        "a number of rows that does not divide; the first step is right",
        native("native:PaddingIsTrained"),
        "all_reduce_sum_uneven",
        meshes=UNEVEN,
        axis=None,
        seen_by=("trajectory",),
    ),
)

NATIVE = REDUCTIONS + GRADIENTS + PLACES + UNEVEN_SIZES
