"""The time that a step takes at the least, on a declared chip and network.

Source: Williams, Waterman and Patterson, Roofline: An Insightful Visual Performance Model. No overlap is assumed to
fail: the slowest of computation and each link bounds the step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from conformance.contract.mesh import Mesh
from conformance.scale.record import Collective, Roofline
from conformance.targets.chip import Chip


def roofline(
    flops: Mapping[str, int], collectives: Sequence[Collective], mesh: Mesh, chip: Chip, tokens: int
) -> Roofline:
    """`flops` and bytes are of one device and one step; `tokens` of the whole batch."""
    compute = sum(operations / chip.peak(dtype) for dtype, operations in flops.items())
    links: dict[str, float] = {}
    for collective in collectives:
        name = "+".join(collective.axes)
        seconds = collective.wire_bytes / bandwidth(collective.axes, mesh, chip)
        links[name] = links.get(name, 0.0) + seconds
    return Roofline(compute_seconds=compute, communication_seconds=links, tokens=tokens)


def bandwidth(axes: Sequence[str], mesh: Mesh, chip: Chip) -> float:
    """Bytes per second of the slowest link between ranks that differ along these axes.

    Ranks of a mesh are counted with its last axis fastest and fill one node after the other.
    """
    sizes = list(mesh.shape)
    reach = max(math.prod(sizes[place + 1 :]) * mesh.size(axis) for place, axis in enumerate(mesh.axes) if axis in axes)
    return chip.node_bandwidth if reach <= chip.devices_per_node else chip.network_bandwidth
