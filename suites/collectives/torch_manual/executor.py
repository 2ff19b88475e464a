"""The executor of schedules in torch: every rank sends and receives its own messages, round by round."""

from __future__ import annotations

from torch import Tensor

from suites.collectives.schedule import Schedule
from suites.collectives.torch_manual.joint_axis import JointAxis


def carried_out(schedule: Schedule, blocks: Tensor, axis: JointAxis) -> Tensor:
    """[blocks, elements] of this rank -> the same when all rounds are done.

    What arrives is added in the order of the schedule, whichever message comes first: the bits do not depend on time.
    """
    blocks = blocks.clone()
    for messages in schedule.rounds:
        sends = [(m.destination, blocks[list(m.blocks)]) for m in messages if m.source == axis.rank]
        incoming = [m for m in messages if m.destination == axis.rank]
        arrived = [blocks.new_empty((len(m.blocks), blocks.shape[1])) for m in incoming]
        axis.deliver(sends, [(m.source, x) for m, x in zip(incoming, arrived, strict=True)])
        for message, x in zip(incoming, arrived, strict=True):
            places = list(message.blocks)
            blocks[places] = blocks[places] + x if message.adds else x
    return blocks
