"""Every fault and negative control of expert parallelism, and the known mechanisms that this suite cannot have."""

from __future__ import annotations

from conformance.cases.fault import NO_AXIS, Fault
from suites.moe.faults.table_routing import BALANCE, ROUTING
from suites.moe.faults.targets import (
    CAPACITY,
    CROSSED,
    CROSSED_WAYS,
    TENSOR,
    TORCH,
    all_ways,
    both,
    each,
    sorted_ways,
)
from suites.tensor.faults.targets import github

GRADIENTS = (
    Fault(
        id="router-partial-grad-marked-replicated",
        summary="Gates meet partial sums over features, and the gradient of the router stays a partial one.",
        bites="features of experts sharded, gates that act behind them; forward exact",
        sources=github("pytorch/torchtitan#2387", "pytorch/torchtitan#2388", "pytorch/torchtitan#2416"),
        planted=all_ways("reductions:RouterGradientPartial"),
        contract="moe/dropless",
        meshes=TENSOR,
        axis="tensor",
        # From the second step on ranks choose other experts; where they then send other numbers of rows, gloo aborts.
        seen_by=("logic", "replicas", "crash"),
    ),
    Fault(
        id="expert-entry-without-gradient-sum",
        summary="Experts with sharded features are entered by the identity, in the backward pass too.",
        bites="features of experts sharded and something before the mixture trained; forward exact",
        planted=all_ways("reductions:ExpertEntryWithoutGradientSum"),
        contract="moe/dropless",
        meshes=TENSOR,
        axis="tensor",
        causes=("all_reduce missing", "copies differ"),  # what comes through the router is whole on every copy
        seen_by=("logic", "replicas"),
    ),
    Fault(
        id="router-gradient-of-own-rows",
        summary="The gradient of the router is not summed over the expert axis.",
        bites="always; every rank of that axis has other rows",
        planted=both("reductions:RouterGradientOfOwnRows"),
        contract="moe/dropless",
        meshes=CROSSED_WAYS,
        axis="expert",
        causes=("missing",),
        seen_by=("logic", "replicas"),
    ),
    Fault(
        id="ep-gradients-multiplied-by-ep",
        summary="Gradients of experts, which have seen all tokens, are scaled by the size of the expert axis.",
        bites="SGD, or a clipping norm that all parameters share; Adam hides it",
        sources=github("pytorch/pytorch#160285"),
        planted=all_ways("reductions:ExpertGradientsMultiplied"),
        contract="moe/dropless",
        meshes=CROSSED_WAYS,
        axis="expert",
        causes=("summed twice",),
    ),
    Fault(
        id="expert-grads-reduced-over-dense-group",
        summary="Gradients of experts are summed over the axes of all other parameters.",
        bites="several experts, on ranks of an axis that the others count as data",
        sources=github("NVIDIA/Megatron-LM#1628", "NVIDIA/Megatron-LM#5916", "NVIDIA-NeMo/Megatron-Bridge#5229"),
        planted=all_ways("reductions:ExpertGradientsOverDenseGroup"),
        contract="moe/dropless",
        meshes=CROSSED_WAYS,
        axis="expert",
    ),
    Fault(
        id="expert-norm-averaged-over-dp",
        summary="Squares of the gradients of experts are averaged over the expert axis instead of summed.",
        bites="clipping that acts",
        sources=github("deepspeedai/DeepSpeed#5259"),
        planted=both("reductions:ExpertNormAveraged"),
        contract="moe/dropless",
        meshes=CROSSED_WAYS,
        axis="expert",
        causes=("the norm misses", "a mean where a sum is meant"),
    ),
    Fault(
        id="zero-token-expert-skips-optimizer-step",
        summary="An expert without tokens has no gradient: its moments do not fade, its weights do not decay.",
        bites="an expert that nobody asks for, weight decay, several steps",
        sources=github("NVIDIA-NeMo/Automodel#2995"),
        planted=each("IdleExpertsNotUpdated"),
        contract="moe/routed",
        meshes=CROSSED,
        axis=NO_AXIS,
        seen_by=("trajectory", "logic"),
    ),
)

EXCHANGE = (
    Fault(
        id="ep-psum-mixes-different-tokens",
        summary="Expert outputs are summed over an axis on which each rank has other tokens at the same place.",
        bites="tokens sharded over the expert axis",
        sources=github("vllm-project/tpu-inference#2248"),
        planted=both("reductions:CombineOverTokens"),
        contract="moe/dropless",
        meshes=CROSSED_WAYS,
        axis="expert",
    ),
    Fault(
        id="ep-nonlocal-expert-mask-skipped",
        summary="Choices of remote experts are not masked: clamped to numbers of local ones, these serve them.",
        bites="experts on several devices",
        sources=github("huggingface/transformers#48201"),
        planted=all_ways("routing:RemoteServedHere"),
        contract="moe/dropless",
        meshes=CROSSED,
        axis="expert",
    ),
    Fault(
        id="dropped-choices-served",
        summary="A dropped choice is clamped to the first expert, which serves it.",
        bites="dropped tokens, padding",
        planted=sorted_ways("routing:DroppedGoToFirstExpert"),
        contract="moe/gshard",
        meshes=CROSSED,
        axis=NO_AXIS,
    ),
    Fault(
        id="token-unpermute-not-inverse",
        summary="Tokens come back by the permutation that brought them, not by its inverse.",
        bites="a permutation that is not its own inverse",
        planted=each("UnpermutedForward"),
        contract="moe/dropless",
        meshes=CROSSED,
        axis=NO_AXIS,
    ),
    Fault(
        id="adapter-output-in-wrong-parallel-state",
        summary="The shared expert, whole on every rank, is counted by each of them.",
        bites="a shared expert beside experts whose features are sharded",
        sources=github("NVIDIA-NeMo/Megatron-Bridge#5634", "NVIDIA-NeMo/Megatron-Bridge#5635"),
        planted=both("reductions:SharedExpertCountedPerRank"),
        contract="moe/balanced",
        meshes=TENSOR,
        axis="tensor",
    ),
)

CONTROLS = (
    Fault(
        id="choices-in-reverse",
        summary="The choices of a token travel and are summed in the opposite order.",
        bites="never",
        planted=all_ways("controls:ChoicesInReverse"),
        contract="moe/dropless",
        meshes=CROSSED_WAYS,
        axis=None,
        control=True,
    ),
    Fault(
        id="norm-of-norms",
        summary="Each rank takes the root of its squares, and the squares of the roots are summed.",
        bites="never",
        planted=dict.fromkeys((CAPACITY, TORCH), "suites.tensor.faults.controls:NormOfNorms"),
        contract="moe/language_model",
        meshes=CROSSED,
        axis=None,
        control=True,
    ),
    Fault(
        id="routing-prescribed-in-bfloat16",
        summary="The conforming program on prescribed routing, products in bfloat16.",
        bites="never",
        planted=all_ways("controls:ChoicesInReverse"),
        contract="moe/routed",
        meshes=CROSSED,
        dtype="bfloat16",
        axis=None,
        control=True,
    ),
    Fault(
        id="router-in-halves",
        summary="The router sums features in two halves, and chooses otherwise between near ties.",
        bites="never: the choices of the oracle are replayed",
        planted=all_ways("controls:RouterInHalves"),
        contract="moe/language_model",
        meshes=CROSSED,
        dtype="bfloat16",
        axis=None,
        control=True,
    ),
)

PRECISION = (
    Fault(
        id="expert-axis-gradients-in-bfloat16",
        summary="Gradients of dense parameters are summed over the expert axis in bfloat16 without declaring it.",
        bites="products in bfloat16; ranks whose gradients cancel",
        planted=each("ReducedInBfloat16", "suites.data.faults"),
        contract="moe/opposed",
        meshes=("expert=4",),
        dtype="bfloat16",
        axis=None,
        causes=("reduced in bfloat16",),
        seen_by=("numerics",),
    ),
)

FAULTS = GRADIENTS + EXCHANGE + PRECISION + ROUTING + BALANCE + CONTROLS

NOT_APPLICABLE = {
    "padding-mask-not-sharded-with-activations": "needs a sharded sequence: planted in the sequence suite",
}
