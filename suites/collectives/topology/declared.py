"""Declared networks: figures of the order of what vendors publish, to show what is picked where.

They are declared and not measured; what the pictures show is which algorithm wins where, and why, not a time.
"""

from __future__ import annotations

from suites.collectives.topology.network import FullyConnected, Link, Network, Torus, TwoLevel

RANKS = 16
SIZES = tuple(2**n for n in range(8, 31, 2))  # bytes of an operand: 256 B to 1 GiB

SWITCH_PORT = Link(latency_seconds=2e-6, seconds_per_byte=1 / 400e9)
TORUS_LINK = Link(latency_seconds=1e-6, seconds_per_byte=1 / 50e9)
NODE_LINK = Link(latency_seconds=5e-6, seconds_per_byte=1 / 50e9)
OVERHEAD_SECONDS = 5e-7

NETWORKS: dict[str, Network] = {
    "switch of 16": FullyConnected(ranks=RANKS, overhead_seconds=OVERHEAD_SECONDS, link=SWITCH_PORT),
    "torus of 4 x 4": Torus(ranks=RANKS, overhead_seconds=OVERHEAD_SECONDS, shape=(4, 4), link=TORUS_LINK),
    "4 nodes of 4": TwoLevel(
        ranks=RANKS, overhead_seconds=OVERHEAD_SECONDS, node=4, inside=SWITCH_PORT, across=NODE_LINK
    ),
}
