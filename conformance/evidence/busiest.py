"""The traffic of the device that has most of it, kind by kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from conformance.contract.implementation import Traffic


def busiest(parts: Sequence[tuple[Traffic, ...]]) -> tuple[Traffic, ...]:
    """Of every kind and dtype, over the same axes in the same phase, the most that any rank has."""
    most: dict[tuple[Any, ...], Traffic] = {}
    for traffic in (traffic for part in parts for traffic in part):
        key = (traffic.kind, traffic.axes, traffic.phase, traffic.dtype, traffic.at_most)
        known = most.get(key, traffic)
        larger = max(known, traffic, key=lambda each: each.bytes)
        most[key] = replace(larger, calls=max(traffic.calls, known.calls))
    return tuple(most.values())
