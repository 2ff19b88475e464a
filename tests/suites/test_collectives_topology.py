"""The model of a network gives the times of the formulas where there are any, and picks what is known to win where."""

from __future__ import annotations

import numpy as np
import pytest

from suites.collectives.algorithms import schedule
from suites.collectives.measure.comparison import compared
from suites.collectives.measure.fit import carried_out_by, fitted
from suites.collectives.measure.timings import NATIVE, OPERAND_BYTES, PROBES, Timing, probe, schedules
from suites.collectives.schedule import ALL_REDUCE
from suites.collectives.topology.declared import NETWORKS
from suites.collectives.topology.network import (
    FullyConnected,
    Link,
    Network,
    NetworkError,
    SharedMemory,
    Torus,
    TwoLevel,
)
from suites.collectives.topology.prediction import pick, predicted, seconds

pytestmark = pytest.mark.quick
ALPHA, BETA, GAMMA = 3e-6, 2e-9, 5e-10
LINK = Link(latency_seconds=ALPHA, seconds_per_byte=BETA)
N = 2**20


def switch(ranks: int, **fields: float) -> FullyConnected:
    return FullyConnected(ranks=ranks, link=LINK, **fields)


def took(algorithm: str, network: Network, operand_bytes: float = N) -> float:
    return seconds(schedule(algorithm, ALL_REDUCE, network.ranks), network, operand_bytes)


@pytest.mark.parametrize("k", [2, 4, 8, 16])
def test_a_switch_gives_the_formulas(k: int):
    """Thakur, Rabenseifner and Gropp (2005): ring and Rabenseifner's algorithm, and the binomial tree."""
    p, share = k.bit_length() - 1, (k - 1) / k
    network = switch(k, combine_seconds_per_byte=GAMMA)
    assert took("ring", network) == pytest.approx(2 * (k - 1) * ALPHA + 2 * share * N * BETA + share * N * GAMMA)
    assert took("halving", network) == pytest.approx(2 * p * ALPHA + 2 * share * N * BETA + share * N * GAMMA)
    assert took("tree", network) == pytest.approx(2 * p * (ALPHA + N * BETA) + p * N * GAMMA)
    assert took("direct", network) == pytest.approx(2 * ALPHA + 2 * share * N * BETA + share * N * GAMMA)


def test_a_rank_begins_one_message_after_the_other():
    assert took("direct", switch(8, overhead_seconds=1.0)) == pytest.approx(14, abs=0.1)
    assert took("ring", switch(8, overhead_seconds=1.0)) == pytest.approx(14, abs=0.1)
    assert took("halving", switch(8, overhead_seconds=1.0)) == pytest.approx(6, abs=0.1)


def test_messages_that_share_a_link_share_its_bandwidth():
    """Between two nodes of four, all four messages of a halving round go up one link."""
    fast = Link(latency_seconds=0.0, seconds_per_byte=0.0)
    slow = Link(latency_seconds=0.0, seconds_per_byte=1.0)
    network = TwoLevel(ranks=8, node=4, inside=fast, across=slow)
    assert took("halving", network, 8) == pytest.approx(2 * 4 * 4)  # 4 ranks exchange half of 8 bytes, twice
    assert took("ring", network, 8) == pytest.approx(14 * 1)  # one byte crosses in every round
    assert SharedMemory(ranks=4, link=slow).route(0, 3) == SharedMemory(ranks=4, link=slow).route(2, 1)


@pytest.mark.parametrize(
    ("shape", "source", "destination", "hops"),
    [((4, 4), 0, 15, 2), ((4, 4), 0, 10, 4), ((8,), 0, 5, 3), ((8,), 7, 0, 1), ((2, 3), 0, 5, 2), ((4, 4), 6, 6, 0)],
)
def test_a_torus_goes_the_shorter_way_round(shape: tuple[int, ...], source: int, destination: int, hops: int):
    network = Torus(ranks=int(np.prod(shape)), shape=shape, link=LINK)
    assert len(network.route(source, destination)) == hops


def test_a_torus_of_one_ring_has_a_link_for_every_message_of_a_ring():
    network = Torus(ranks=8, shape=(8,), link=LINK)
    assert took("ring", network) == pytest.approx(2 * 7 * (ALPHA + N / 8 * BETA))


def test_what_cannot_be_is_refused():
    with pytest.raises(NetworkError, match=r"shape \(4, 4\) has 16 ranks, not 8"):
        Torus(ranks=8, shape=(4, 4), link=LINK)
    with pytest.raises(NetworkError, match="8 ranks make no nodes of 3"):
        TwoLevel(ranks=8, node=3, inside=LINK, across=LINK)


def test_what_is_known_to_win_is_picked():
    nodes, torus = NETWORKS["4 nodes of 4"], NETWORKS["torus of 4 x 4"]
    assert pick(ALL_REDUCE, nodes, 2**26) == "hierarchical"  # most bytes stay inside a node
    assert took("ring", torus, 2**26) < took("halving", torus, 2**26)  # far messages share the links of near ones
    assert took("halving", torus, 2**10) < took("ring", torus, 2**10)
    for network in NETWORKS.values():
        slowest = list(predicted(ALL_REDUCE, network, 2**10))[-1]
        assert slowest == "ring"  # its rounds grow with the ranks
        assert list(predicted(ALL_REDUCE, network, 2**28))[-1] in ("tree", "halving", "direct")
    assert set(predicted(ALL_REDUCE, switch(7), N)) == {"ring", "tree", "halving", "direct"}  # no divisor of 7


def _timings(call: float, network: SharedMemory, framework: str = "torch") -> list[Timing]:
    """What a machine would measure that is just as the model says."""
    timings = []
    for size in OPERAND_BYTES:
        times = {
            name: call + seconds(carried_out_by(framework, plan), network, size)
            for name, plan in schedules(network.ranks).items()
        }
        for name, value in (times | {NATIVE: 1.0}).items():
            timings.append(
                Timing(
                    framework=framework,
                    ranks=network.ranks,
                    algorithm=name,
                    operand_bytes=size,
                    seconds=value,
                    shortest_seconds=value,
                )
            )
    return timings


NETWORK = SharedMemory(
    ranks=4,
    overhead_seconds=4e-5,
    combine_seconds_per_byte=GAMMA,
    link=Link(latency_seconds=7e-5, seconds_per_byte=BETA, seconds_per_message=2e-5),
)


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_a_fit_predicts_the_timings_of_a_machine_that_is_as_the_model_says(framework: str):
    """In JAX a message of one pair takes as long as those of all: what it costs by itself cannot be told."""
    timings = _timings(1e-4, NETWORK, framework)
    seen = fitted(timings)
    assert seen.call_seconds == pytest.approx(1e-4)
    if framework == "torch":
        assert seen.network.overhead_seconds == pytest.approx(NETWORK.overhead_seconds)
        assert vars(seen.network.link) == pytest.approx(vars(NETWORK.link))
    assert seen.network.combine_seconds_per_byte == pytest.approx(GAMMA)
    _, comparisons = compared(timings)
    assert len(comparisons) == len(OPERAND_BYTES)
    for row in comparisons:
        assert row.measured_seconds == pytest.approx(row.predicted_seconds)
        assert row.loss == pytest.approx(1)


def test_algorithms_have_no_part_in_a_fit():
    timings = _timings(1e-4, NETWORK)
    assert fitted([timing for timing in timings if timing.algorithm in PROBES]) == fitted(timings)
    assert len(probe(4, "round a ring, added 8 times").rounds) == 8
    assert [len(messages) for messages in probe(4, "to three").rounds] == [12]
