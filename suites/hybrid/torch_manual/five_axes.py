"""data x fsdp x expert x sequence x tensor: full sharding, uneven exchange, ring attention, a sharded stream."""

from __future__ import annotations

from suites.data.torch_manual.zero3 import Zero3
from suites.hybrid.step_budget import FIVE_AXES_UNEVEN
from suites.hybrid.stream import MixtureInStream
from suites.moe.torch_manual.exchange import UnevenExchange
from suites.sequence.torch_manual import ring


class LanguageModel(MixtureInStream, Zero3, UnevenExchange, ring.LanguageModel):
    """A decoder language model with mixtures in some of its layers."""

    sends = FIVE_AXES_UNEVEN
