"""The tensor-parallel language model with every policy of memory."""

from __future__ import annotations

from suites.memory.jax_manual.checkpointing import Checkpointing
from suites.memory.jax_manual.donation import Donating
from suites.memory.jax_manual.spilling import Spilling
from suites.tensor.jax_manual import transformer


class LanguageModel(Donating, Spilling, Checkpointing, transformer.LanguageModel):
    """The decoder language model."""
