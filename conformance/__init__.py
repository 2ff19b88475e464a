"""shardproof: does a model that is split over many devices still compute what one device computes?"""

from conformance.contract import Contract, Precision, Recipe
from conformance.implementation import Arranged, Declarations, Implementation, Sharded, Traffic, Unsupported
from conformance.inline import Judgement, check
from conformance.mesh import Mesh

__all__ = [
    "Arranged",
    "Contract",
    "Declarations",
    "Implementation",
    "Judgement",
    "Mesh",
    "Precision",
    "Recipe",
    "Sharded",
    "Traffic",
    "Unsupported",
    "check",
]
