"""A schedule: a collective as rounds of messages between ranks. Data, which executors carry out and models price.

Every rank has a buffer of as many equal blocks as the schedule says. The messages of a round are all sent from the
buffers as they are when it begins; then what has arrived is added to the same blocks of the receiver, or takes their
place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import zip_longest

from conformance.contract.errors import ShardproofError

ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER = "all_reduce", "all_gather", "reduce_scatter"
COLLECTIVES = (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER)
SCATTER_AND_GATHER = "reduce_scatter and all_gather"  # one after the other, on the same axis


class ScheduleError(ShardproofError):
    """A schedule that an algorithm does not have: the message is one sentence."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """Some blocks from one rank to another, which adds them to its own or puts them in their place."""

    source: int
    destination: int
    blocks: tuple[int, ...]
    adds: bool


Round = tuple[Message, ...]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One collective over `ranks`, whose buffers have `blocks` blocks.

    all_reduce      begins with a whole operand on every rank, ends with the whole sum on every rank
    all_gather      blocks = ranks; begins with block r on rank r, ends with all of them on every rank
    reduce_scatter  blocks = ranks; begins as an all-reduce, ends with block r of the sum on rank r
    """

    collective: str
    ranks: int
    blocks: int
    rounds: tuple[Round, ...]


def permutations(messages: Round) -> list[Round]:
    """The messages of a round, cut into parts in which no rank sends or receives twice.

    Law: each message is in the first part that has room for it; a permute of either framework carries one part.
    """
    parts: list[list[Message]] = []
    for message in messages:
        free = (part for part in parts if all(_apart(message, other) for other in part))
        part = next(free, None)
        if part is None:
            parts.append([message])
        else:
            part.append(message)
    return [tuple(part) for part in parts]


def in_one_program(schedule: Schedule) -> Schedule:
    """The schedule as a program carries it out that is the same on all ranks: permutations one after the other, each
    with a message of every rank, as long as the longest; a rank that has nothing to send sends to itself."""
    parts = (part for messages in schedule.rounds for part in permutations(messages))
    return replace(schedule, rounds=tuple(_of_all_ranks(part, schedule.ranks) for part in parts))


def _of_all_ranks(part: Round, ranks: int) -> Round:
    longest = max((message.blocks for message in part), key=len)
    sent = {message.source: message for message in part}
    idle = Message(source=0, destination=0, blocks=longest, adds=False)
    return tuple(
        replace(sent[rank], blocks=longest) if rank in sent else replace(idle, source=rank, destination=rank)
        for rank in range(ranks)
    )


def _apart(left: Message, right: Message) -> bool:
    return left.source != right.source and left.destination != right.destination


def together(parts: Iterable[list[Round]]) -> list[Round]:
    """Schedules of ranks that have nothing to do with one another, round by round at once."""
    return [tuple(m for messages in rounds for m in messages) for rounds in zip_longest(*parts, fillvalue=())]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a schedule costs, by formula: of the busiest rank, and of a program that is the same on all ranks.

    rounds    how often all wait for messages
    messages  that the busiest rank sends, and `blocks` what the rank that sends most sends
    permutes  of a program in which every rank takes part in every message, and the blocks of them: `permuted`
    """

    rounds: int
    messages: int
    blocks: int
    permutes: int
    permuted: int


def same(*, rounds: int, messages: int, blocks: int) -> Cost:
    """The cost where every rank sends the same."""
    return Cost(rounds=rounds, messages=messages, blocks=blocks, permutes=messages, permuted=blocks)


def both(first: Cost, second: Cost, blocks: int) -> Cost:
    """Two collectives one after the other, in which the rank that sends most in both sends so many blocks."""
    total = {field.name: getattr(first, field.name) + getattr(second, field.name) for field in fields(Cost)}
    return Cost(**total | {"blocks": blocks})


def counted(schedule: Schedule) -> Cost:
    """The same, counted from the messages."""
    sent = [[m for messages in schedule.rounds for m in messages if m.source == r] for r in range(schedule.ranks)]
    parts = [part for messages in schedule.rounds for part in permutations(messages)]
    return Cost(
        rounds=len(schedule.rounds),
        messages=max(map(len, sent)),
        blocks=max(sum(len(m.blocks) for m in messages) for messages in sent),
        permutes=len(parts),
        permuted=sum(max(len(m.blocks) for m in part) for part in parts),
    )


def all_messages(schedule: Schedule) -> Iterator[Message]:
    return (message for messages in schedule.rounds for message in messages)
