"""The table of faults: a loss that couples all rows of a batch."""

from __future__ import annotations

from conformance.cases.fault import Fault
from suites.data.faults.targets import HYBRID, both, each

_ROWS = ("data=4,tensor=2",)  # rows over one axis, and something else over the other

COUPLED = (
    Fault(
        id="contrastive-negatives-of-own-rank",
        summary="Every rank contrasts its rows with its own rows only.",
        bites="more than one rank with rows; the loss is smaller, and looks better",
        planted=both("data_parallel", "contrastive:OwnNegatives"),
        contract="data/contrastive",
        meshes=_ROWS,
        axis="data",
    ),
    Fault(
        id="contrastive-gather-without-gradient",
        summary="Rows of other ranks are constants: a gather without a gradient, and the rank's own rows put back.",
        bites="more than one rank with rows; the forward pass is exact",
        planted=each("data_parallel", "GatheredAsConstants") | each("zero3", "GatheredAsConstants"),
        contract="data/contrastive",
        meshes=_ROWS,
        axis="data",
    ),
    Fault(
        id="contrastive-gather-gradient-not-summed",
        summary="The gradient of a gather is the rank's own part of its own gradient; the other ranks' are missing.",
        bites="more than one rank with rows; the forward pass is exact",
        planted=each("data_parallel", "OwnPartOfGradient"),
        contract="data/contrastive",
        meshes=_ROWS,
        axis="data",
    ),
    Fault(
        id="contrastive-gather-rotated",
        summary="Gathered rows begin with those of the next rank, so that rows are paired with rows of another rank.",
        bites="more than one rank with rows",
        planted=both("zero1", "contrastive:GatheredFromNextRank"),
        contract="data/contrastive",
        meshes=_ROWS,
        axis="data",
    ),
    Fault(
        id="contrastive-axes-gathered-in-other-order",
        summary="Rows sharded over two axes are gathered over the outer axis first.",
        bites="rows over two axes",
        planted=both("zero3", "contrastive:GatheredInOtherOrder"),
        contract="data/contrastive",
        meshes=HYBRID,
        axis=None,
        seen_by=("logic", "communication"),
    ),
    Fault(
        id="contrastive-mean-of-means",
        summary="Each rank divides by its own number of valid rows, and the means are averaged.",
        bites="another number of valid rows on each rank",
        planted=both("data_parallel", "losses:MeanOfMeans"),
        contract="data/contrastive_skewed",
        meshes=_ROWS,
        axis="data",
        causes=("mean of means",),
    ),
    Fault(
        id="rows-summed-into-place",
        summary="Every rank puts its rows in their place among zeros, and the sum over ranks has all of them.",
        bites="never",
        planted=each("data_parallel", "SummedIntoPlace"),
        contract="data/contrastive",
        meshes=HYBRID,
        axis=None,
        control=True,
    ),
)
