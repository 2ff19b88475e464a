"""What a schedule takes on a network, and which algorithm takes least.

Law: rounds follow one another. A round takes what its busiest rank needs to begin its messages, the longest latency of
a route, the time of the most loaded link, and what the rank that adds most needs for that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping

from suites.collectives.algorithms import ALGORITHMS, schedule
from suites.collectives.schedule import Round, Schedule, ScheduleError
from suites.collectives.topology.network import Network


def seconds(schedule: Schedule, network: Network, operand_bytes: float) -> float:
    """Of the whole schedule.

    operand_bytes  of what is cut into its blocks: the operand of an all-reduce or reduce-scatter on each rank, the
                   result of an all-gather
    """
    block_bytes = operand_bytes / schedule.blocks
    return sum(_round_seconds(messages, network, block_bytes) for messages in schedule.rounds if messages)


def _round_seconds(messages: Round, network: Network, block_bytes: float) -> float:
    begun = Counter(message.source for message in messages)
    load: dict[Hashable, float] = defaultdict(float)  # seconds of every link
    added: dict[int, float] = defaultdict(float)  # bytes of every rank
    latency = 0.0
    for message in messages:
        size = len(message.blocks) * block_bytes
        route = network.route(message.source, message.destination)
        latency = max(latency, sum(link.latency_seconds for _, link in route))
        for name, link in route:
            load[name] += link.seconds_per_message + size * link.seconds_per_byte
        added[message.destination] += size if message.adds else 0.0
    busiest = max(begun.values()) * network.overhead_seconds
    return busiest + latency + max(load.values()) + max(added.values()) * network.combine_seconds_per_byte


def predicted(collective: str, network: Network, operand_bytes: float) -> Mapping[str, float]:
    """Algorithm -> seconds, the quickest first; of those that have a schedule for so many ranks."""
    times = {}
    for algorithm in ALGORITHMS:
        try:
            times[algorithm] = seconds(schedule(algorithm, collective, network.ranks), network, operand_bytes)
        except ScheduleError:
            continue
    return dict(sorted(times.items(), key=lambda item: item[1]))


def pick(collective: str, network: Network, operand_bytes: float) -> str:
    """The algorithm that is predicted to take least."""
    return next(iter(predicted(collective, network, operand_bytes)))
