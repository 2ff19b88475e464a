"""data x fsdp x expert x sequence x tensor: full sharding, ragged exchange, ring attention, a sharded stream."""

from __future__ import annotations

from suites.data.jax_manual.zero3 import Zero3
from suites.hybrid.step_budget import FIVE_AXES_RAGGED
from suites.hybrid.stream import MixtureInStream
from suites.moe.jax_manual.ragged import RaggedExchange
from suites.sequence.jax_manual import ring


class LanguageModel(MixtureInStream, Zero3, RaggedExchange, ring.LanguageModel):
    """A decoder language model with mixtures in some of its layers."""

    sends = FIVE_AXES_RAGGED
