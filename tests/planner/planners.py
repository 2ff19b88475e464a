"""Planners that laws must catch: a guide's, and one for each law."""

from __future__ import annotations

from functools import cache
from typing import Any

from conformance.planner.ours import plan as plan_anew

_remembered = cache(plan_anew)


def ours(model: str, devices: int, memory: str) -> dict[str, Any] | None:
    """Our own, each question searched once in all tests."""
    plan = _remembered(model, devices, memory)
    return None if plan is None else dict(plan)


def guide(model: str, devices: int, memory: str) -> dict[str, Any]:
    """As guides have it: the size is read without its unit, and four devices share a layer wherever there are four."""
    size = float(model.rstrip("BM"))
    if size * 16 / devices < float(memory.rstrip("GiB")) * 1e9:
        return {"data": devices // 4, "tensor": 4} if devices >= 4 else {"data": devices}
    return {"data": 1, "tensor": devices}


def loses_devices(model: str, devices: int, memory: str) -> dict[str, Any] | None:
    return ours(model, devices - devices % 4, memory) if devices >= 4 else None


def gives_up(model: str, devices: int, memory: str) -> dict[str, Any] | None:
    return None if devices % 2 else ours(model, devices, memory)


def copies(model: str, devices: int, memory: str) -> dict[str, Any]:
    """Every device has the whole model, however large it is."""
    ours(model, devices, memory)
    return {"data": devices}


def splits_heads(model: str, devices: int, memory: str) -> dict[str, Any]:
    ours(model, devices, memory)
    return {"tensor": devices}


def has_experts(model: str, devices: int, memory: str) -> dict[str, Any] | None:
    """A dense model has none."""
    plan = ours(model, devices, memory)
    return plan and {"expert": plan.pop("fsdp", 1), **plan}


def wastes_memory(model: str, devices: int, memory: str) -> dict[str, Any] | None:
    """Where there is much of it, everything is computed again all the same, in as many slices as there are."""
    plan = ours(model, devices, memory)
    if plan and memory == "160GiB":
        return {"fsdp": devices, "recompute": "layer", "microbatches": max(plan["microbatches"], 2)}
    return plan


def grows(model: str, devices: int, memory: str) -> dict[str, Any] | None:
    """More devices take more copies of what is divided less."""
    plan = ours(model, devices, memory)
    if plan and devices in (12, 14, 16, 20) and plan.get("fsdp", 1) % 2 == 0:
        return {"data": devices}
    return plan


def reads_numbers(model: str, devices: int, memory: str) -> dict[str, Any] | None:
    """A number without a unit is billions."""
    return ours(model if model[-1] in "BM" or "e" in model else f"{model}B", devices, memory)


def reads_gibibytes(model: str, devices: int, memory: str) -> dict[str, Any] | None:
    """Every memory is in GiB, whatever its unit says."""
    number = "".join(letter for letter in memory if letter.isdigit())
    return ours(model, devices, f"{number}GiB")


def raises(model: str, devices: int, memory: str) -> dict[str, Any]:
    raise ValueError("no plan today")


def odd_microbatches(model: str, devices: int, memory: str) -> dict[str, Any] | None:
    """In numbers that no batch of these divides into."""
    plan = ours(model, devices, memory)
    return plan and {**plan, "microbatches": 11}


def unknown_policy(model: str, devices: int, memory: str) -> dict[str, Any] | None:
    plan = ours(model, devices, memory)
    return plan and {**plan, "recompute": "sometimes"}


def too_many_stages(model: str, devices: int, memory: str) -> dict[str, Any]:
    """One for each device, also where a row has no more than one microbatch."""
    ours(model, devices, memory)
    return {"pipeline": devices, "microbatches": 1}


_asked: list[str] = []


def changes_its_mind(model: str, devices: int, memory: str) -> dict[str, Any] | None:
    """Every second time it gives another answer."""
    _asked.append(model)
    return ours(model, devices, memory) if len(_asked) % 2 else {"data": devices}
