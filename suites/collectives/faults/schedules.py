"""Bugs and controls of algorithms: changes to the schedule that executors of both frameworks carry out."""

from __future__ import annotations

from dataclasses import replace

from suites.collectives.faults import Conforming
from suites.collectives.schedule import ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER, Message, Schedule


def _each(schedule: Schedule, changed) -> Schedule:
    """Every message changed, or left out where that gives None."""
    rounds = tuple(tuple(filter(None, map(changed, messages))) for messages in schedule.rounds)
    return replace(schedule, rounds=tuple(filter(None, rounds)))


class LastRoundLost(Conforming):
    """One round less than it takes: an off-by-one in the loop over the ring."""

    def schedule(self, collective, axis):
        schedule = super().schedule(collective, axis)
        return replace(schedule, rounds=schedule.rounds[:-1])


class BlocksRolled(Conforming):
    """Block numbers are one too large, everywhere alike."""

    def schedule(self, collective, axis):
        schedule = super().schedule(collective, axis)

        def rolled(message: Message) -> Message:
            return replace(message, blocks=tuple((block + 1) % schedule.blocks for block in message.blocks))

        return _each(schedule, rolled) if collective == REDUCE_SCATTER else schedule


class GatherAdds(Conforming):
    """What is gathered is added to what lies there, which still holds a partial sum."""

    def schedule(self, collective, axis):
        schedule = super().schedule(collective, axis)
        return _each(schedule, lambda message: replace(message, adds=True)) if collective == ALL_REDUCE else schedule


class SumOverwrites(Conforming):
    """What arrives takes the place of what is there, instead of being added to it."""

    def schedule(self, collective, axis):
        return _each(super().schedule(collective, axis), lambda message: replace(message, adds=False))


class RemainderNotFolded(Conforming):
    """The ranks beyond a power of two do not hand over what they have; they are given the result all the same."""

    def schedule(self, collective, axis):
        schedule = super().schedule(collective, axis)
        core = 1 << (schedule.ranks.bit_length() - 1)
        return _each(schedule, lambda message: message if message.source < core else None)


class NodesApart(Conforming):
    """Each node sums for itself: nothing is sent across nodes."""

    def schedule(self, collective, axis):
        schedule = super().schedule(collective, axis)
        size = 2  # ranks of a node, on axes of four

        def inside(message: Message) -> Message | None:
            return message if message.source // size == message.destination // size else None

        return _each(schedule, inside)


class RingReversed(Conforming):
    """Messages go to the previous rank, and are labelled as if they came from there."""

    def schedule(self, collective, axis):
        schedule = super().schedule(collective, axis)

        def turned(message: Message) -> Message:
            return replace(message, destination=(2 * message.source - message.destination) % schedule.ranks)

        return _each(schedule, turned) if collective == ALL_GATHER else schedule


class TreeOfPowersOfTwo(Conforming):
    """The children beyond the largest power of two are forgotten, on the way up and down."""

    def schedule(self, collective, axis):
        schedule = super().schedule(collective, axis)
        core = 1 << (schedule.ranks.bit_length() - 1)

        def within(message: Message) -> Message | None:
            return message if max(message.source, message.destination) < core else None

        return _each(schedule, within)


class SendsAllThatItHas(Conforming):
    """Every round of a gather carries the blocks of all rounds before it too: right values, redundant bytes."""

    def schedule(self, collective, axis):
        schedule = super().schedule(collective, axis)
        if collective != ALL_GATHER:
            return schedule
        k = schedule.ranks
        rounds = (
            tuple(replace(m, blocks=tuple((m.source - s) % k for s in range(number + 1))) for m in messages)
            for number, messages in enumerate(schedule.rounds)
        )
        return replace(schedule, rounds=tuple(rounds))


class OtherWayRound(Conforming):
    """A control: the ring runs the other way, blocks and ranks being numbered backwards."""

    def schedule(self, collective, axis):
        schedule = super().schedule(collective, axis)
        last = schedule.ranks - 1

        def mirrored(message: Message) -> Message:
            return replace(
                message,
                source=last - message.source,
                destination=last - message.destination,
                blocks=tuple(last - block for block in message.blocks),
            )

        return _each(schedule, mirrored)


class MessagesInOtherOrder(Conforming):
    """A control: the messages of a round are posted, and what arrives is added, in the opposite order."""

    def schedule(self, collective, axis):
        schedule = super().schedule(collective, axis)
        return replace(schedule, rounds=tuple(messages[::-1] for messages in schedule.rounds))
