"""What a schedule must do, shown by carrying it out on names instead of numbers."""

from __future__ import annotations

from collections import Counter

from suites.collectives.schedule import ALL_GATHER, REDUCE_SCATTER, Message, Schedule

Contents = list[list[Counter[int]]]  # [rank][block] -> how often the operand of each rank is in it


def violations(schedule: Schedule) -> list[str]:
    """One sentence for each broken law; empty for a schedule that does what it should.

    Laws: a rank sends to another one at most once in a round, and never to itself; no block is sent that holds nothing;
    what a rank receives of a block in one round is all added or the only thing; and in the end every rank has every
    block that it is owed, with the operand of every rank in it exactly once (of a gather: of its owner).
    """
    sentences = _malformed(schedule)
    return sentences or _wrong(schedule, contents(schedule))


def contents(schedule: Schedule) -> Contents:
    """What every rank holds in the end."""
    gathers = schedule.collective == ALL_GATHER
    held = [
        [Counter() if gathers and b != r else Counter([r]) for b in range(schedule.blocks)]
        for r in range(schedule.ranks)
    ]
    for messages in schedule.rounds:
        sent = [(m, [Counter(held[m.source][b]) for b in m.blocks]) for m in messages]
        for message, values in sent:
            for block, value in zip(message.blocks, values, strict=True):
                here = held[message.destination]
                here[block] = here[block] + value if message.adds else value
    return held


def _malformed(schedule: Schedule) -> list[str]:
    sentences = []
    for number, messages in enumerate(schedule.rounds):
        pairs = Counter((m.source, m.destination) for m in messages)
        sentences += [f"Round {number}: {a} sends to {b} twice." for (a, b), n in pairs.items() if n > 1]
        sentences += [f"Round {number}: rank {a} sends to itself." for a, b in pairs if a == b]
        sentences += [f"Round {number}: {_spoken(m)} overwrites another." for m in messages if _overwrites(m, messages)]
    return sentences


def _overwrites(message: Message, messages: tuple[Message, ...]) -> bool:
    rivals = [m for m in messages if m is not message and m.destination == message.destination]
    return not message.adds and any(set(m.blocks) & set(message.blocks) for m in rivals)


def _spoken(message: Message) -> str:
    return f"the message from {message.source} to {message.destination}"


def _wrong(schedule: Schedule, held: Contents) -> list[str]:
    everyone = Counter(range(schedule.ranks))
    sentences = []
    for rank in range(schedule.ranks):
        owed = [rank] if schedule.collective == REDUCE_SCATTER else range(schedule.blocks)
        for block in owed:
            wanted = Counter([block]) if schedule.collective == ALL_GATHER else everyone
            if held[rank][block] != wanted:
                terms = sorted(held[rank][block].elements())
                sentences.append(f"Rank {rank} ends with the operands of ranks {terms} in block {block}.")
    return sentences
