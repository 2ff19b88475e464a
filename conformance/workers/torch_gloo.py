"""One gloo device for all process groups of a rank.

A process group makes a device of its own unless it is given one, and each device has a thread that waits for messages
and wakes some ninety times a second. A rank that has run many programs holds dozens of groups, since DTensor keeps
their meshes: eight idle ranks then take half of the machine's CPU. With one device a rank has one such thread.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch.distributed as dist

# What gloo's bindings must still have; where a release of torch lacks some, each group has a device of its own.
PRIVATE = ("create_device", "create_default_device", "_Options")
_DEFAULT = timedelta(minutes=30)  # of torch


def missing() -> tuple[str, ...]:
    """The names that this torch lacks."""
    gloo = getattr(dist, "ProcessGroupGloo", None)
    return tuple(name for name in PRIVATE if not hasattr(gloo, name))


def share_device() -> None:
    """Give every gloo process group that this process makes from now on the same devices. Call it after a fork."""
    if missing():
        return
    gloo: Any = dist.ProcessGroupGloo
    interfaces = os.environ.get("GLOO_SOCKET_IFNAME", "").split(",")
    devices = [gloo.create_device(interface=name) if name else gloo.create_default_device() for name in interfaces]
    construct = gloo.__init__

    def construct_sharing(group: Any, store: Any, rank: int, size: int, timeout: Any = _DEFAULT) -> None:
        options = timeout
        if isinstance(timeout, timedelta):
            options = gloo._Options()
            options._devices, options._timeout = devices, timeout
        construct(group, store, rank, size, options)

    gloo.__init__ = construct_sharing
