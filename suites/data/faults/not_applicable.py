"""The mechanisms of data parallelism, normalisation, clipping and compilers that no contract here can show, and why."""

from __future__ import annotations

_EXPERTS = "needs experts: for the mixture-of-experts suite"
_STAGES = "needs pipeline stages: for the pipeline suite"

NOT_APPLICABLE = {
    # Losses and norms.
    "pp-scale-grads-compounds-under-accumulation": _STAGES,
    "split-backward-wgrad-not-scaled": _STAGES,
    "aux-loss-not-divided-by-accumulation": _EXPERTS,
    "fp16-loss-scale-not-synced-over-tp": "no recipe scales its loss, in float16 either: no step is left out",
    "expert-norm-averaged-over-dp": _EXPERTS,
    "clip-norm-after-wrong-stage": _STAGES,
    # Data parallelism and sharded state.
    "zero-token-expert-skips-optimizer-step": _EXPERTS,
    "batchnorm-statistics-per-rank": "no layer here takes statistics over the rows of a batch",
    # Compilers.
    "conv-grad-input-wrong-placement": "no model here has convolutions; images of the pipeline suite are whole",
    "indexed-write-into-sharded-array": "nothing here writes into a shard by index; planted in the tensor suite",
    "concat-of-mixed-shardings-doubles": "planted in the tensor suite, where an axis is unused",
    "cumsum-over-sharded-axis": "the tokens of a row are on one device here; planted in the sequence suite",
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
