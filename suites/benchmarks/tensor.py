"""Tensor parallelism: the language model on data=2,tensor=4, in both frameworks and both styles."""

from __future__ import annotations

CONTRACT, MESH = "tensor/language_model", "data=2,tensor=4"
IMPLEMENTATIONS = ["jax-shard_map", "jax-automatic", "torch-collectives", "torch-dtensor"]
DTYPES = ["float32", "bfloat16"]
VERSION = "1"


class LanguageModel:
    """One judged and measured run per implementation and dtype, shared by all series."""

    params = (IMPLEMENTATIONS, DTYPES)
    param_names = ("implementation", "dtype")
    timeout = 900

    def setup_cache(self) -> dict:
        from suites.benchmarks.judged import measured

        return {(name, dtype): measured(CONTRACT, name, MESH, dtype) for name in IMPLEMENTATIONS for dtype in DTYPES}

    def setup(self, found: dict, implementation: str, dtype: str) -> None:
        self.figures = found[implementation, dtype]

    def track_seconds_per_token(self, found: dict, implementation: str, dtype: str) -> float:
        return self.figures["seconds_per_token"]

    def track_peak_bytes(self, found: dict, implementation: str, dtype: str) -> float:
        """Not a number for torch: nothing is compiled there."""
        return self.figures.get("peak_bytes", float("nan"))

    def track_error_over_bound(self, found: dict, implementation: str, dtype: str) -> float:
        return self.figures["error_over_bound"]

    def track_overhead(self, found: dict, implementation: str, dtype: str) -> float:
        return self.figures["overhead"]

    for series, unit in (
        (track_seconds_per_token, "seconds/token"),
        (track_peak_bytes, "bytes"),
        (track_error_over_bound, "error/bound"),
        (track_overhead, "share"),
    ):
        series.unit, series.version = unit, VERSION  # type: ignore[attr-defined]
    del series, unit
