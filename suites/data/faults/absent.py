"""The mechanisms of data parallelism, normalisation, clipping and compilers that no contract here can show, and why."""

from __future__ import annotations

_EXPERTS = "needs experts: for the mixture-of-experts suite"
_STAGES = "needs pipeline stages: for the pipeline suite"

ABSENT = {
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
    "cumsum-over-sharded-axis": "no row is divided here; planted in the sequence suite",
    "fusion-aliasing-only-at-four-devices": "planted in the tensor suite",
    "shard-read-scaled-by-host-count": "needs several hosts; here one host has all devices",
}
