"""shardproof: does a model that is split over many devices still compute what one device computes?"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.contract import Contract, Precision, Recipe
    from conformance.implementation import Arranged, Declarations, Implementation, Packed, Sharded, Traffic, Unsupported
    from conformance.inline import Judgement, check
    from conformance.mesh import Mesh

__all__ = [
    "Arranged",
    "Contract",
    "Declarations",
    "Implementation",
    "Judgement",
    "Mesh",
    "Packed",
    "Precision",
    "Recipe",
    "Sharded",
    "Traffic",
    "Unsupported",
    "check",
]

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    # `python -m conformance...` has put the working folder first: a `queue.py` there is no module of ours.
    sys.path.append(sys.path.pop(0))

_HOMES = {
    "contract": ("Contract", "Precision", "Recipe"),
    "implementation": ("Arranged", "Declarations", "Implementation", "Packed", "Sharded", "Traffic", "Unsupported"),
    "inline": ("Judgement", "check"),
    "mesh": ("Mesh",),
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are asked for: the command line and the pytest plugin start without them."""
    for home, names in _HOMES.items():
        if name in names:
            from conformance.importing import standard_first

            with standard_first():
                return getattr(import_module(f"conformance.{home}"), name)
    raise AttributeError(f"module 'conformance' has no attribute '{name}'")
