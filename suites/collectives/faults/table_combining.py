"""The table of faults: gradients that are summed in buckets, after the backward pass or inside it."""

from __future__ import annotations

from typing import Any

from conformance.cases.fault import Fault
from suites.collectives.faults.targets import SQUARE, in_jax, in_torch

_FILE = "combining:"
AFTER, INSIDE = "bucketed", "overlapped"


def _both(mixin: str, *how: str) -> dict[str, str]:
    planted: dict[str, str] = {}
    for name in how:
        planted |= in_jax(f"{_FILE}{mixin}", name) | in_torch(f"{_FILE}{mixin}", name)
    return planted


def _fault(name: str, summary: str, bites: str, planted: dict[str, str], **fields: Any) -> Fault:
    return Fault(
        id=name,
        summary=summary,
        bites=bites,
        planted=planted,
        **{"contract": "collectives/gradients", "meshes": SQUARE, "axis": "data", **fields},
    )


COMBINING = (
    _fault(
        "last-bucket-dropped",
        "The bucket that is not full when the loop ends is never summed.",
        "always; the gradients of the first layers, copies drift apart",
        _both("LastBucketDropped", AFTER),
        seen_by=("logic", "replicas"),
    ),
    _fault(
        "bucket-cut-in-another-order",
        "A bucket is filled from the last parameter on, and cut from the first one on.",
        "buckets of several gradients; copies agree",
        _both("CutInAnotherOrder", AFTER, INSIDE),
        axis=None,
    ),
    _fault(
        "gradients-summed-again",
        "Gradients that buckets have summed already are summed once more, one by one.",
        "always; copies agree, Adam nearly hides it",
        _both("SummedAgain", AFTER, INSIDE),
        causes=("summed twice", "done too often"),
    ),
    _fault(
        "bucket-over-one-axis-of-two",
        "Buckets are summed over the first axis of the data alone.",
        "two axes of data",
        _both("OverOneAxisOfTwo", AFTER, INSIDE),
        contract="collectives/gradients_accumulated",
        meshes=("data=2,fsdp=2",),
        axis="fsdp",
        seen_by=("logic", "replicas"),
    ),
    _fault(
        "no-bucket-begun-in-time",
        "No bucket is begun before the backward pass is over.",
        "always; every number is right, and nothing overlaps",
        in_torch(f"{_FILE}BegunAfterwards", INSIDE),
        axis=None,
        seen_by=("communication",),
    ),
    _fault(
        "bucket-begun-too-early",
        "A bucket is summed before its last gradient is there.",
        "always; the gradient is zero, and copies agree",
        in_torch(f"{_FILE}BegunTooEarly", INSIDE),
        axis=None,
    ),
)

CONTROLS = tuple(
    _fault(name, summary, "never", _both(mixin, AFTER, INSIDE), axis=None, control=True)
    for name, summary, mixin in (
        ("small-buckets", "Buckets hold 256 bytes each.", "SmallBuckets"),
        ("one-bucket", "All gradients are in one bucket.", "OneBucket"),
    )
)
