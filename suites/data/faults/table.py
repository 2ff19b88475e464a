"""Every fault and negative control of data parallelism, and the known mechanisms that this suite cannot have.

Here: losses, norms, dropout, controls. `table_state` has state, precision and checkpoints, `table_optimizers` decay
groups and ratios of norms, `table_memory` bytes per device, `table_steps` slices and how shards are gathered, scattered
and counted, `table_torch` what only torch has, `table_coupled` a loss of all rows, `table_evaluation` metrics of a data
set, `table_random` what is drawn, computed again, rounded and loaded, `not_applicable` what cannot be planted.
"""

from __future__ import annotations

from conformance.cases.fault import Fault
from suites.data.faults.not_applicable import NOT_APPLICABLE as _NOT_APPLICABLE
from suites.data.faults.table_coupled import COUPLED
from suites.data.faults.table_evaluation import EVALUATION
from suites.data.faults.table_memory import MEMORY, MEMORY_CONTROLS
from suites.data.faults.table_optimizers import OPTIMIZERS
from suites.data.faults.table_random import CHANCE, CHANCE_NOT_APPLICABLE
from suites.data.faults.table_state import PRECISION, SAVED, STATE
from suites.data.faults.table_steps import GATHERED, SLICES, STEPS
from suites.data.faults.table_torch import TORCH
from suites.data.faults.targets import CROSSED, HYBRID, HYBRID_WAYS, SMALL, both, each, in_torch, of_tensor
from suites.tensor.faults.targets import github

LOSSES = (
    Fault(
        id="dp-mean-of-means",
        summary="Each data rank divides by its own number of valid tokens, and the means are averaged.",
        bites="another number of valid tokens on each rank",
        sources=github(
            "pytorch/torchtune#2172",
            "huggingface/transformers#37474",
            "huggingface/transformers#34373",
            "huggingface/transformers#40610",
        ),
        planted=both("data_parallel", "losses:MeanOfMeans"),
        contract="data/ragged",
        meshes=("data=3", *CROSSED),
        axis="data",
        causes=("mean of means",),
    ),
    Fault(
        id="weighted-mean-loss-on-sharded-batch",
        summary="Each data rank divides by the sum of its own weights, and the means are averaged.",
        bites="weights that differ",
        sources=github("pytorch/pytorch#185167"),
        planted=both("data_parallel", "losses:MeanOfMeans"),
        contract="data/weighted",
        meshes=CROSSED,
        axis="data",
        causes=("mean of means",),
    ),
    Fault(
        id="mtp-loss-local-token-counts",
        summary="One term of the loss is divided by the rank's own valid tokens, and averaged over the ranks.",
        bites="a second term of the loss, another number of valid tokens on each rank",
        sources=github("NVIDIA/Megatron-LM#7452", "NVIDIA/Megatron-LM#7498"),
        planted=both("data_parallel", "losses:ZTermOfLocalCount"),
        contract="data/ragged",
        meshes=CROSSED,
        axis="data",
        causes=("goes away when",),
    ),
    Fault(
        id="loss-scale-unapplied-but-unscaled",
        summary="The optimizer divides by a loss scale that no loss was multiplied by.",
        bites="always; the loss stays flat",
        sources=github("deepspeedai/DeepSpeed#7839"),
        planted=both("zero1", "losses:UnscaledWithoutScale"),
        contract="data/language_model_sgd",
        meshes=SMALL,
        axis=None,
        causes=("times the gradient",),
        seen_by=("trajectory",),
    ),
)

NORMS = (
    Fault(
        id="clip-applied-on-one-tp-rank",
        summary="The first rank of the shard axis clips, the others do not.",
        bites="clipping active",
        sources=(*github("deepspeedai/DeepSpeed#1801"), "https://github.com/OrderLab/TrainCheck"),
        planted=both("zero3", "norms:ClippedOnFirstShard"),
        contract="data/language_model_sgd",
        meshes=HYBRID,
        axis="fsdp",
        causes=("without clipping",),
        seen_by=("trajectory",),
    ),
    Fault(
        id="norm-counts-replicated-params-tp-times",
        summary="Gradients are whole on every rank, and their squares are summed as if they were shards.",
        bites="clipping active, or the norm reported",
        sources=github("NVIDIA-NeMo/RL#3788", "ROCm/TransformerEngine#715"),
        planted=both("zero1", "norms:WholeGradientsCountedByShard"),
        contract="data/language_model_sgd",
        meshes=HYBRID_WAYS,
        axis="fsdp",
        causes=("replicated parameters counted", "summed twice"),
    ),
    Fault(
        id="norm-misses-sharded-params",
        summary="One parameter is taken for a replicated one: only the first rank's shard counts.",
        bites="clipping active, or the norm reported",
        sources=github("NVIDIA/Megatron-LM#5916", "NVIDIA/Megatron-LM#7530", "NVIDIA/Megatron-LM#7452"),
        planted=both("zero3", "norms:OneParameterOfFirstShard"),
        contract="data/language_model_sgd",
        meshes=HYBRID,
        axis="fsdp",
        causes=("the norm misses shards", "reduction missing"),
    ),
    Fault(
        id="norm-of-local-shard-only",
        summary="Every rank clips with the norm of its own shards.",
        bites="clipping active, or the norm reported",
        sources=github("pytorch/pytorch#170862", "pytorch/torchtitan#766", "Modalities/modalities#206"),
        planted=of_tensor("zero3", "norms:NormOfLocalShards") | in_torch("fsdp2", "NormOfLocalShards"),
        contract="data/language_model_sgd",
        meshes=HYBRID,
        axis="fsdp",
        causes=("missing",),
        seen_by=("logic", "replicas"),
    ),
    Fault(
        id="norm-of-partial-sum",
        summary="The root is taken on each rank, and norms are added instead of squares.",
        bites="clipping active, or the norm reported",
        sources=github("pytorch/pytorch#159856", "pytorch/pytorch#165962"),
        planted=of_tensor("zero3", "norms:NormsSummed"),
        contract="data/language_model_sgd",
        meshes=HYBRID,
        axis="fsdp",
        causes=("norms of ranks added",),
    ),
    Fault(
        id="clip-silently-disabled",
        summary="The norm is reported, the gradients are not scaled.",
        bites="clipping active",
        sources=github("deepspeedai/DeepSpeed#3790", "areal-project/AReaL#335"),
        planted=of_tensor("zero3", "norms:ClippingDisabled"),
        contract="data/language_model_sgd",
        meshes=SMALL,
        axis=None,
        causes=("clipping not applied",),
        seen_by=("trajectory",),
    ),
    Fault(
        id="padding-counted-in-norm",
        summary="The padding of the last shards is uninitialized memory and is counted in the norm.",
        bites="sizes that the shard axis does not divide",
        planted=both("zero3", "norms:PaddingEntersNorm"),
        contract="data/language_model_sgd",
        meshes=("data=2,fsdp=3",),
        axis="fsdp",
        causes=("goes away when",),
    ),
)

DROPOUT = (
    Fault(
        id="dropout-same-on-every-device",
        summary="Every data rank has the seeds of the first one, so that all of them drop the same.",
        bites="data > 1",
        planted=both("data_parallel", "losses:SeedsOfFirstRank"),
        contract="data/dropout",
        meshes=CROSSED,
        axis="data",
        causes=("every rank holds the shard of rank 0",),
    ),
    Fault(
        id="dropout-differs-on-copies",
        summary="A residual stream that every tensor rank has is masked with a draw of each rank's own.",
        bites="tensor > 1",
        planted=both("data_parallel", "losses:MaskOfTensorRank"),
        contract="data/dropout",
        meshes=CROSSED,
        axis="tensor",
        causes=("only the first rank", "copies differ"),
        seen_by=("logic", "replicas"),
    ),
    Fault(
        id="recompute-without-rng-restore",
        summary="A layer that is computed again draws new masks: gradient and loss are of different samples.",
        bites="dropout and recompute",
        sources=github("allenai/OLMo-core#828", "pytorch/pytorch#190758", "pytorch/pytorch#190717"),
        planted=each("zero3", "OtherMaskInBackward"),
        contract="data/dropout_recomputed",
        meshes=SMALL,
        axis=None,
        causes=("another mask than on", "without recompute"),
    ),
    Fault(
        id="partitionable-rng-with-remat",
        summary="When a layer is computed again, the draw depends on the place of the device.",
        bites="dropout and recompute, data > 1",
        sources=github("jax-ml/jax#17982"),
        planted=each("zero3", "PartitionedSeedsInBackward"),
        contract="data/dropout_recomputed",
        meshes=SMALL,
        axis="data",
        causes=("another mask than on", "without recompute"),
    ),
)

CONTROLS = (
    Fault(
        id="norm-of-norms",
        summary="Each rank takes the root of its squares, and the squares of the roots are summed.",
        bites="never",
        planted=of_tensor("zero3", "controls:NormOfNorms"),
        contract="data/language_model_sgd",
        meshes=HYBRID_WAYS,
        axis=None,
        control=True,
    ),
    Fault(
        id="sum-then-shard",
        summary="A reduce-scatter is a sum, of which each rank keeps its shard.",
        bites="never",
        planted=both("zero2", "controls:SumThenShard"),
        contract="data/accumulation_3",
        meshes=SMALL,
        axis=None,
        control=True,
    ),
    Fault(
        id="summed-axis-by-axis",
        summary="Gradients are summed over one axis of the data after the other, in bfloat16, which is declared.",
        bites="never",
        planted=both("data_parallel", "controls:SummedAxisByAxis"),
        contract="data/policy_bfloat16_reduction",
        meshes=SMALL,
        dtype="float32",
        axis=None,
        control=True,
    ),
    Fault(
        id="gradients-in-one-bucket",
        summary="All gradients are summed in one call, as one flat buffer.",
        bites="never",
        planted=each("data_parallel", "GradientsInOneBucket"),
        contract="data/dropout_recomputed",
        meshes=SMALL,
        axis=None,
        control=True,
    ),
)

FAULTS = (
    *(LOSSES + COUPLED + NORMS + SLICES + STEPS + STATE + OPTIMIZERS + PRECISION + DROPOUT),
    *(EVALUATION + SAVED + TORCH + CHANCE + CONTROLS + GATHERED),
    *(MEMORY + MEMORY_CONTROLS),
)

NOT_APPLICABLE = _NOT_APPLICABLE | CHANCE_NOT_APPLICABLE
