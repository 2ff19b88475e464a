"""The mechanisms of data parallelism, normalisation, clipping and compilers that no contract here can show, and why."""

from __future__ import annotations

_EXPERTS = "needs experts: for the mixture-of-experts suite"
_STAGES = "needs pipeline stages: for the pipeline suite"

NOT_APPLICABLE = {
    # Losses and norms.
    "pp-scale-grads-compounds-under-accumulation": _STAGES,
    "split-backward-wgrad-not-scaled": _STAGES,
    "aux-loss-not-divided-by-accumulation": _EXPERTS,
    "fp16-loss-scale-not-synced-over-tp": "no contract scales its loss: nothing here computes in float16",
    "expert-norm-averaged-over-dp": _EXPERTS,
    "clip-norm-after-wrong-stage": _STAGES,
    # Data parallelism and sharded state.
    "zero-token-expert-skips-optimizer-step": _EXPERTS,
    "batchnorm-statistics-per-rank": "no layer here couples the rows of a batch",
    # Compilers.
    "conv-grad-input-wrong-placement": "no model here has convolutions",
    "indexed-write-into-sharded-array": "nothing here writes by index; the tensor suite plants it in the embedding",
    "concat-of-mixed-shardings-doubles": "planted in the tensor suite, where an axis is unused",
    "cumsum-over-sharded-axis": "no row is sharded here; planted in the sequence suite",
    "fusion-aliasing-only-at-four-devices": "planted in the tensor suite",
    # Other parallelisms.
    "vpp-layer-offset-wrong": _STAGES,
    "pp-tied-embedding-grads-not-summed": _STAGES,
    "pp-wrong-peer-or-microbatch-pairing": _STAGES,
    "interleaved-schedule-swaps-chunks": _STAGES,
    "router-partial-grad-marked-replicated": _EXPERTS,
    "ep-gradients-multiplied-by-ep": _EXPERTS,
    "expert-grads-reduced-over-dense-group": _EXPERTS,
    "ep-psum-mixes-different-tokens": _EXPERTS,
    "ep-nonlocal-expert-mask-skipped": _EXPERTS,
    "token-unpermute-not-inverse": _EXPERTS,
    "expert-bias-update-from-local-counts": _EXPERTS,
    "topk-or-sort-over-sharded-axis": _EXPERTS,
    "moe-tie-break-or-noise-rank-dependent": _EXPERTS,
}
