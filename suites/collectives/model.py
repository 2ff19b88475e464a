"""The model of a contract of collectives: a function of rows, and the collective that computes it on a mesh."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.contract.implementation import CollectiveKind
from reference.rows import RowFunction


@dataclass(frozen=True, kw_only=True)
class Collective(RowFunction):
    """What the reference computes of the rows of one array, devices compute by a collective.

    collective  all_reduce, all_gather, reduce_scatter, all_to_all, permute or broadcast
    axes        the mesh axes that it runs over at once, those that the mesh has
    strided     operands and gradients come in another memory order (torch), with the sharded dim behind another (JAX)
    """

    collective: CollectiveKind
    axes: tuple[str, ...] = ("tensor",)
    strided: bool = False
