"""The table of faults: evaluation on a data set that does not divide."""

from __future__ import annotations

from conformance.cases.fault import NO_AXIS, Fault
from suites.data.faults.targets import HYBRID, SMALL, both, each

EVALUATION = (
    Fault(
        id="evaluation-counts-padding",
        summary="The padding rows of the last round count as valid.",
        bites="a data set that does not divide",
        planted=both("data_parallel", "evaluation:FillersCounted"),
        contract="data/evaluation",
        meshes=SMALL,
        axis=None,
    ),
    Fault(
        id="evaluation-counts-duplicates",
        summary="The last round is filled up with the first rows, which count twice.",
        bites="a data set that does not divide; torch's DistributedSampler does so unless told otherwise",
        planted=both("data_parallel", "evaluation:WrapsAround") | both("zero3", "evaluation:WrapsAround"),
        contract="data/evaluation",
        meshes=SMALL,
        axis=None,
    ),
    Fault(
        id="evaluation-drops-last-batch",
        summary="Rows that make no whole round are left out.",
        bites="a data set that does not divide",
        planted=both("zero1", "evaluation:LastRoundDropped"),
        contract="data/evaluation",
        meshes=SMALL,
        axis=None,
    ),
    Fault(
        id="evaluation-mean-of-batch-means",
        summary="Means of rounds are averaged, whatever number of valid tokens each of them has.",
        bites="another number of valid tokens in each round",
        planted=each("data_parallel", "MeanOfRoundMeans"),
        contract="data/evaluation",
        meshes=HYBRID,
        axis=None,
    ),
    Fault(
        id="evaluation-with-dropout",
        summary="Dropout stays active during evaluation.",
        bites="dropout",
        planted=both("data_parallel", "evaluation:DropsOut"),
        contract="data/evaluation",
        meshes=SMALL,
        axis=NO_AXIS,
    ),
    Fault(
        id="evaluation-of-own-rows",
        summary="Every rank reports the metrics of its own rows.",
        bites="more than one rank; the first one's look plausible",
        planted=both("zero2", "evaluation:OwnRowsOnly"),
        contract="data/evaluation",
        meshes=HYBRID,
        axis=None,
        seen_by=("logic", "replicas"),
    ),
    Fault(
        id="evaluation-before-update",
        summary="The model that is evaluated is that of the step before.",
        bites="always; the curve looks right, but is one step late",
        planted=both("zero3", "evaluation:EvaluatedBeforeUpdate"),
        contract="data/evaluation",
        meshes=SMALL,
        axis=NO_AXIS,
    ),
    Fault(
        id="evaluation-rows-dealt-out",
        summary="Rows are distributed to the ranks round-robin.",
        bites="never",
        planted=both("zero3", "evaluation:DealtOut"),
        contract="data/evaluation",
        meshes=SMALL,
        axis=None,
        control=True,
    ),
)
