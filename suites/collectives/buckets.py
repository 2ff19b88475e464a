"""Buckets: many small gradients summed over devices as one, which saves launches and changes no bit. Framework-neutral.

Law: every gradient is in one bucket; buckets hold gradients in the order in which a backward pass makes them, the last
parameter first, up to `bucket_bytes` each; a gradient that is larger has a bucket of its own.
Source: Li et al., PyTorch Distributed: Experiences on Accelerating Data Parallel Training, section 3.2 (bucketing, and
overlap with the backward pass).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

from suites.training.state_layout import StateLayout
from suites.training.traffic import BYTES


def buckets(sizes: Mapping[str, int], limit: int) -> list[tuple[str, ...]]:
    """Names -> consecutive groups whose sizes add up to the limit at most, unless a single one exceeds it."""
    groups: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not groups or size > room:
            groups.append([])
            room = limit
        groups[-1].append(name)
        room -= size
    return [tuple(group) for group in groups]


class Bucketed(StateLayout):
    """A mixin for a data-parallel step in either framework: gradients are summed bucket by bucket, not one by one."""

    bucket_bytes: ClassVar[int] = 2048

    @cached_property
    def buckets(self) -> list[tuple[str, ...]]:
        width = BYTES[self.reduction_dtype]
        sizes = {name: width * self.local_elements(name) for name in reversed(tuple(self.contract.shapes))}
        return buckets(sizes, self.bucket_bytes)

    def axes_of_gradient(self, name: str) -> tuple[str, ...]:
        """None are left, once its bucket has been summed."""
        return ()
