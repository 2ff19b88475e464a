"""The device of a torch rank: an accelerator where there is one for every rank of the machine, else the CPU."""

from __future__ import annotations

import torch

from conformance.workers.spot import Visible

BACKENDS = {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl"}


def visible() -> Visible:
    """The accelerators of this machine; on the CPU any number of ranks can run."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None or accelerator.type not in BACKENDS:
        return Visible(most=None, platform="cpu")
    return Visible(most=torch.accelerator.device_count(), platform=accelerator.type)


def take(kind: str, local_rank: int) -> str:
    """Make the device of this rank the one on which tensors are made -> its type."""
    device_type = "cpu" if kind == "emulated" else visible().platform
    if device_type != "cpu":
        torch.accelerator.set_device_index(local_rank)
        torch.set_default_device(f"{device_type}:{local_rank}")
    return device_type
