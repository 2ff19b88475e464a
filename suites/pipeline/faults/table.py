"""Every fault and negative control of pipeline parallelism, and the known mechanisms that this suite cannot have."""

from __future__ import annotations

from conformance.cases.fault import NO_AXIS, Fault
from suites.pipeline.faults.not_applicable import NOT_APPLICABLE as NOT_APPLICABLE
from suites.pipeline.faults.targets import CROSSED, CROSSED_WAYS, UNEVEN, both, each, in_jax
from suites.tensor.faults.targets import github

STAGES = (
    Fault(
        id="vpp-layer-offset-wrong",
        summary="Later chunks count their layers from an offset that is off by one.",
        bites="several chunks on a rank, be it the only one, layers whose weights differ",
        sources=github("NVIDIA/Megatron-LM#1584", "NVIDIA/Megatron-LM#1583"),
        planted=both("interleaved", "steps:LayersOfNeighbour"),
        contract="pipeline/language_model_untied",
        meshes=("data=2,pipeline=2",),
        axis=NO_AXIS,
    ),
    Fault(
        id="pp-tied-embedding-grads-not-summed",
        summary="First and last stage update their copies of the tied embedding, each with its own gradient.",
        bites="an embedding tied to a head on another rank",
        sources=github("uw-syfi/piper#13", "cornstarch-org/Cornstarch#16", "NVIDIA/Megatron-LM#299"),
        planted=both("1f1b", "steps:TiedGradientsNotSummed") | both("zb-h1", "steps:TiedGradientsNotSummed"),
        contract="pipeline/language_model",
        meshes=CROSSED_WAYS,
        axis="pipeline",
        causes=("missing",),
    ),
    Fault(
        id="pp-tied-head-not-loaded",
        summary="The last stage does not load the tied embedding, which belongs to layers that it does not have.",
        bites="an embedding tied to a head on another rank",
        sources=github("sgl-project/sglang#15890"),
        planted=each("1f1b", "TiedHeadNotLoaded"),
        contract="pipeline/language_model",
        meshes=CROSSED,
        axis="pipeline",
        seen_by=("census", "replicas"),
    ),
    Fault(
        id="interleaved-schedule-swaps-chunks",
        summary="Microbatches beyond the first round pass the two chunks of a rank in the wrong order.",
        bites="more microbatches than ranks, be it only one, chunks that differ",
        planted=in_jax("interleaved", "ChunksSwapped"),
        contract="pipeline/perceptron",
        meshes=("data=2,pipeline=2",),
        axis=NO_AXIS,
    ),
    Fault(
        id="pp-skip-gradient-dropped",
        summary="Skip tensors that pass through a stage get no gradient.",
        bites="tensors that cross more than one cut",
        planted=each("gpipe", "SkipGradientDropped"),
        contract="pipeline/perceptron_skips",
        meshes=UNEVEN,
        axis="pipeline",
    ),
)

MICROBATCHES = (
    Fault(
        id="pp-wrong-peer-or-microbatch-pairing",
        summary="The last stage pairs an activation with the labels of the microbatch before.",
        bites="microbatches that differ",
        sources=("https://arxiv.org/abs/2506.15961",),
        planted=each("1f1b", "LabelsOfAnotherMicrobatch"),
        contract="pipeline/language_model",
        meshes=UNEVEN,
        axis=None,
    ),
    Fault(
        id="pp-message-to-wrong-peer",
        summary="Every message goes one rank too far along the pipeline axis.",
        bites="always; in a single program no rank waits",
        sources=("https://arxiv.org/abs/2506.15961",),
        planted=in_jax("1f1b", "MessagesToWrongPeer"),
        contract="pipeline/perceptron",
        meshes=CROSSED,
        axis="pipeline",
    ),
    Fault(
        id="pp-one-activation-for-all-microbatches",
        summary="A stage keeps one activation for all microbatches.",
        bites="several microbatches live at once",
        planted=each("1f1b", "ActivationsOverwritten"),
        contract="pipeline/perceptron",
        meshes=CROSSED,
        axis="pipeline",
    ),
    Fault(
        id="pp-mask-of-another-row-rides-along",
        summary="The padding that travels with an activation belongs to the next row of its microbatch.",
        bites="padding that differs by row",
        planted=both("1f1b", "steps:PassthroughRollsOn"),
        contract="pipeline/language_model_untied",
        meshes=CROSSED,
        axis="pipeline",
    ),
    Fault(
        id="pp-mean-of-microbatch-means",
        summary="Each microbatch divides by its own number of valid tokens.",
        bites="masks that differ by microbatch",
        planted=both("gpipe", "steps:MeanOfMicrobatchMeans"),
        contract="pipeline/language_model",
        meshes=CROSSED,
        axis=None,
        seen_by=("census", "logic"),
    ),
)

GRADIENTS = (
    Fault(
        id="split-backward-wgrad-not-scaled",
        summary="Deferred weight gradients are not scaled as the others are.",
        bites="a backward pass that is cut in two",
        sources=github("pytorch/pytorch#164777"),
        planted=both("zb-h1", "steps:WeightGradientsNotScaled") | both("zbv", "steps:WeightGradientsNotScaled"),
        contract="pipeline/perceptron",
        meshes=("data=2,pipeline=3",),
        axis=None,
        causes=("microbatches",),
    ),
    Fault(
        id="pp-scale-grads-compounds-under-accumulation",
        summary="Every slice divides all that was added up so far by the number of microbatches.",
        bites="several slices of several microbatches each",
        sources=github("pytorch/torchtitan#1733", "pytorch/torchtitan#1732"),
        planted=both("1f1b", "steps:ScaledAgainBySlice"),
        contract="pipeline/accumulation",
        meshes=("data=2,pipeline=2",),
        axis=None,
        causes=("accumulation", "count wrongly"),
    ),
    Fault(
        id="clip-norm-after-wrong-stage",
        summary="Every stage clips by the norm of its own gradients.",
        bites="clipping active",
        planted=both("1f1b", "steps:NormPerStage"),
        contract="pipeline/language_model_untied",
        meshes=CROSSED_WAYS,
        axis="pipeline",
        seen_by=("logic", "replicas"),
    ),
    Fault(
        id="clip-norm-counts-tied-embedding-twice",
        summary="Both copies of the tied embedding enter the norm.",
        bites="clipping active, an embedding tied to a head on another rank",
        planted=each("1f1b", "TiedCountedTwice"),
        contract="pipeline/language_model",
        meshes=CROSSED,
        axis="pipeline",
    ),
    Fault(
        id="pp-normalizer-on-last-stage-only",
        summary="The number of valid tokens is not passed on: all stages but the last divide by 1.",
        bites="always",
        planted=both("1f1b", "steps:LossOnLastStageOnly"),
        contract="pipeline/perceptron",
        meshes=CROSSED,
        axis="pipeline",
        seen_by=("replicas", "logic"),
    ),
    Fault(
        id="pp-gradients-not-summed-over-replicas",
        summary="Each replica of the pipeline keeps the gradients of its own rows.",
        bites="several replicas",
        planted=both("gpipe", "steps:NotSummedOverReplicas"),
        contract="pipeline/replicas",
        meshes=("data=2,pipeline=4",),
        axis="data",
        seen_by=("replicas",),
    ),
)

SAVED = (
    Fault(
        id="pp-only-first-stage-saved",
        summary="Parameters of later stages are not written and are loaded as zeros.",
        bites="pipeline > 1",
        sources=github("pytorch/torchtitan#474", "Lightning-AI/pytorch-lightning#5567"),
        planted=both("1f1b", "checkpoints:OnlyFirstStageSaved"),
        contract="pipeline/saved",
        meshes=UNEVEN,
        axis="pipeline",
        causes=("relation 'checkpoint'",),
        seen_by=("relations",),
    ),
)

CONTROLS = (
    Fault(
        id="control-tied-saved-by-last-stage",
        summary="The last stage's copy of the tied embedding is the one that is written.",
        bites="never",
        planted=both("1f1b", "checkpoints:TiedSavedByLast"),
        contract="pipeline/saved",
        meshes=UNEVEN,
        axis=None,
        control=True,
    ),
    Fault(
        id="control-backward-in-order",
        summary="Microbatches pass backward in the order in which they passed forward.",
        bites="never",
        planted=both("gpipe", "controls:BackwardInOrder"),
        contract="pipeline/perceptron_skips",
        meshes=UNEVEN,
        axis=None,
        control=True,
    ),
    Fault(
        id="control-cut-greedily",
        summary="Stages are cut by the greedy partitioner.",
        bites="never",
        planted=both("1f1b", "controls:CutGreedily") | both("zb-h1", "controls:CutGreedily"),
        contract="pipeline/convolution",
        meshes=("pipeline=3",),
        axis=None,
        control=True,
    ),
    Fault(
        id="control-first-stages-short",
        summary="Every stage but the last has one stage unit.",
        bites="never",
        planted=both("interleaved", "controls:FirstStagesShort"),
        contract="pipeline/language_model",
        meshes=("data=2,pipeline=2",),
        axis=None,
        control=True,
    ),
)

OPTIMIZERS = (
    Fault(
        id="norms-and-biases-decayed",
        summary="One optimizer updates the vector of a stage and decays all of it.",
        bites="decay groups",
        planted=both("1f1b", "suites.data.faults.optimizers:OneGroup"),
        contract="pipeline/decay_groups",
        meshes=("data=2,pipeline=2",),
        axis=NO_AXIS,
        causes=("without decay groups", "weight decay applied once too often"),
        seen_by=("trajectory",),
    ),
    Fault(
        id="decay-groups-of-first-stage",
        summary="Decay groups are made from names that only the first stage has; the others decay all.",
        bites="decay groups, pipeline > 1",
        planted=both("1f1b", "suites.data.faults.optimizers:GroupsOfFirstStage"),
        contract="pipeline/decay_groups",
        meshes=CROSSED,
        axis="pipeline",
        seen_by=("trajectory",),
    ),
)

HOLLOW = (
    Fault(
        id="pipeline-whole-on-every-rank",
        summary="Every rank holds all stages and runs all of them.",
        bites="always; every number is right",
        planted=dict.fromkeys(("jax-1f1b", "torch-1f1b"), "suites.training.whole:WholeOnEveryRank"),
        contract="pipeline/perceptron",
        meshes=("data=2,pipeline=2",),
        axis=None,
        causes=("the axis divides nothing",),
        seen_by=("layout",),
    ),
)

FAULTS = STAGES + MICROBATCHES + GRADIENTS + OPTIMIZERS + SAVED + HOLLOW + CONTROLS
