"""shardproof: does a model that is split over many devices still compute what one device computes?"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.capture.capture import capture
    from conformance.cases.suite import ImplementationEntry, MatrixRow, Suite
    from conformance.contract.budget import Allowance
    from conformance.contract.contract import Contract, Precision, Recipe
    from conformance.contract.errors import ShardproofError
    from conformance.contract.implementation import (
        Declarations,
        Implementation,
        Packed,
        Reordered,
        Sharded,
        Traffic,
        Unsupported,
    )
    from conformance.contract.mesh import Mesh
    from conformance.contract.placements import Owned, Partial, Replicate, Shard
    from conformance.inline.check import Judgement, check
    from conformance.inline.matrix import Matrix, check_matrix

__all__ = [
    "Allowance",
    "Contract",
    "Declarations",
    "Implementation",
    "ImplementationEntry",
    "Judgement",
    "Matrix",
    "MatrixRow",
    "Mesh",
    "Owned",
    "Packed",
    "Partial",
    "Precision",
    "Recipe",
    "Reordered",
    "Replicate",
    "Shard",
    "Sharded",
    "ShardproofError",
    "Suite",
    "Traffic",
    "Unsupported",
    "capture",
    "check",
    "check_matrix",
]

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    # `python -m conformance...` has put the working folder first: a `queue.py` there is no module of ours.
    sys.path.append(sys.path.pop(0))

LOG = "SHARDPROOF_LOG"  # environment: the file to which every process of ours appends what it logs


def _log() -> None:
    """What ours give up without a word is logged under `shardproof`: to the file that LOG names, else nowhere."""
    from conformance.cases.importing import standard_first

    with standard_first():
        import logging

        file, logger = os.environ.get(LOG), logging.getLogger("shardproof")
        handler = logging.FileHandler(file, encoding="utf-8") if file else logging.NullHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(name)s: %(message)s"))
        logger.addHandler(handler)
        if file:
            logger.setLevel(logging.DEBUG)


_log()

_HOMES = {
    "capture.capture": ("capture",),
    "cases.suite": ("ImplementationEntry", "MatrixRow", "Suite"),
    "contract.budget": ("Allowance",),
    "contract.contract": ("Contract", "Precision", "Recipe"),
    "contract.errors": ("ShardproofError",),
    "contract.implementation": (
        "Reordered", "Declarations", "Implementation", "Packed", "Sharded", "Traffic", "Unsupported",
    ),
    "contract.mesh": ("Mesh",),
    "contract.placements": ("Owned", "Partial", "Replicate", "Shard"),
    "inline.check": ("Judgement", "check"),
    "inline.matrix": ("Matrix", "check_matrix"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public names are imported when they are asked for: the command line and the pytest plugin start without them."""
    for home, names in _HOMES.items():
        if name in names:
            from conformance.cases.importing import standard_first

            with standard_first():
                return getattr(import_module(f"conformance.{home}"), name)
    raise AttributeError(f"module 'conformance' has no attribute '{name}'")
