"""Collectives that the trace does not know: they would be missed in every count, so the program is refused."""

from __future__ import annotations

from conformance.contract.errors import ShardproofError
from conformance.trace import jax_version as version
from conformance.trace.jax_places import Frame, walk
from conformance.trace.jax_version import Jaxpr


class UnreadableCollectiveError(ShardproofError, TypeError):
    """A collective that the trace does not know; the message is one sentence."""


def refuse_unreadable(jaxpr: Jaxpr) -> None:
    """Raise UnreadableCollectiveError when the program has a collective that would be missed in every count."""
    for place in walk(jaxpr, Frame()):
        if version.is_unreadable(place.eqn):
            name = place.eqn.primitive.name
            raise UnreadableCollectiveError(f"The step uses the collective '{name}', which the trace cannot read yet.")
