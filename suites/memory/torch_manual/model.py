"""The tensor-parallel language model with every policy of memory."""

from __future__ import annotations

from suites.memory.torch_manual.checkpointing import Checkpointing
from suites.memory.torch_manual.donation import Donating
from suites.memory.torch_manual.spilling import Spilling
from suites.tensor.torch_manual import transformer


class LanguageModel(Donating, Spilling, Checkpointing, transformer.LanguageModel):
    """The decoder language model."""
