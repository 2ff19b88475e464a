"""Known mechanisms that this suite cannot have, and why."""

from __future__ import annotations

NOT_APPLICABLE = {
    "fp8-grad-amax-not-reduced-under-recompute": "nothing here computes in float8, so that nothing has a scale",
}
