"""Collectives that the program of a TPU carries out in pieces, inside fusions that compute meanwhile.

Such a collective is written once in the fusion that starts it, once in each that goes on with it, and once in the one
that ends it, always with the same channel. It is sent once: what counts is the one that is handed to the start.
"""

from __future__ import annotations

import re

from conformance.traffic.collective_op import UnattributedError
from conformance.traffic.hlo_module import Computation, Instruction, Module

_IN_PIECES = "async_collective_fusion_config"
_START = 'custom_call_target="AsyncCollectiveStart"'
_CHANNEL = re.compile(r"channel_id=(\d+)")


def started_channels(module: Module) -> frozenset[str]:
    """Those of all collectives of a module that are carried out in pieces."""
    return frozenset(
        _channel(instruction)
        for computation in module.computations.values()
        for instruction in computation.instructions.values()
        if _IN_PIECES in instruction.attributes and _is_start(instruction, computation)
    )


def goes_on(instruction: Instruction, computation: Computation, started: frozenset[str]) -> bool:
    """Whether a collective is no more than a later piece of one. Raises UnattributedError where none begins it."""
    if _IN_PIECES not in instruction.attributes or _is_start(instruction, computation):
        return False
    if _channel(instruction) not in started:
        raise UnattributedError(f"Where the collective {instruction.name} starts is not in the program.")
    return True


def _is_start(instruction: Instruction, computation: Computation) -> bool:
    return any(_START in user.attributes for user in computation.users.get(instruction.name, ()))


def _channel(instruction: Instruction) -> str:
    named = _CHANNEL.search(instruction.attributes)
    return named[1] if named else ""
