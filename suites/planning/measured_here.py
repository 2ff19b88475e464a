"""What the published measurements of this project say of a claim: emulated devices, small models, figures of results/.

Ratios alone are read: seconds of one machine mean nothing on another.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MESH = "data=2,tensor=2"
NOT_HERE = "not measured: emulated devices share the cores of one machine"


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Figures of `results/memory` and `results/schedules`."""

    memory: tuple[dict[str, Any], ...]
    bubbles: tuple[dict[str, Any], ...]

    @classmethod
    def read(cls, results: Path) -> Measurements:
        memory = json.loads((results / "memory/figures.json").read_text(encoding="utf-8"))
        schedules = json.loads((results / "schedules/figures.json").read_text(encoding="utf-8"))
        return cls(memory=tuple(memory), bubbles=tuple(schedules["bubbles"]))

    def _of(self, policy: str, shape: str) -> dict[str, Any]:
        """Activations that the backward pass keeps under a policy, in JAX."""
        [row] = [
            row for row in self.memory
            if (row["policy"], row["shape"], row["framework"], row["mesh"], row["kind"])
            == (policy, shape, "jax", MESH, "saved residuals") and row["group"] in ("checkpointing", "accumulation")
        ]  # fmt: skip
        return row

    def checkpointing(self) -> str:
        kept = self._of("layer", "wide")["bytes"] / self._of("none", "wide")["bytes"]
        time = self._of("layer", "small")["seconds"] / self._of("none", "small")["seconds"] - 1
        return f"kept activations become {kept:.0%} (4 layers, traced), CPU time {time:+.0%} (small shape, run)"

    def accumulation(self) -> str:
        whole, in_two, in_four = (self._of(f"{k} slice{'s' * (k > 1)}", "wide")["bytes"] for k in (1, 2, 4))
        return f"kept activations become {in_two / whole:.0%} with 2 slices and {in_four / whole:.0%} with 4 (traced)"

    def bubble(self, microbatches: int) -> float:
        """Share of a step that two ranks wait under 1F1B."""
        [row] = [row for row in self.bubbles if (row["schedule"], row["microbatches"]) == ("1f1b", microbatches)]
        return float(row["measured"])

    def waiting(self) -> str:
        told = ", ".join(f"{m} microbatches {self.bubble(m):.0%}" for m in (2, 4, 8))
        return f"on 2 ranks, a core each: {told}"

    def fewer_microbatches(self) -> str:
        return f"on 2 ranks {self.bubble(8):.0%} with 8 against {self.bubble(2):.0%} with 2"
