"""Known mechanisms that this suite cannot have, and why."""

from __future__ import annotations

NOT_APPLICABLE = {
    "fp8-grad-amax-not-reduced-under-recompute": "float8 is no dtype of a case, so that nothing has a scale",
}
