"""Carried mutations: the same change to the same collective, in the program of a narrower mesh.

There collectives have other numbers, since some are gone. One is known again by its phase, kind and axes, and its place
among all that are like it; where there are not as many of these on both meshes, nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from conformance.cases.case import Case, Mutation
from conformance.contract.alteration import Alteration
from conformance.trace.site import Site
from conformance.workers.jobs import Outcome

Key = tuple[str, str, tuple[str, ...], str | None]
Listed = Callable[[Case], Outcome]


def carried(wide: Case, narrow: Case, listed: Listed) -> Case | None:
    """The narrow case with the mutation of the wide one, or without it where what it changes is gone.

    listed   what can be mutated in the program of a case
    None where the collective cannot be told among the others.
    """
    mutation = wide.mutation
    assert mutation is not None
    plain = replace(narrow, mutation=None)
    before, after = listed(replace(wide, mutation=None)), listed(plain)
    if before.failure is not None or after.failure is not None:
        return None
    if any(alteration.operator == mutation.operator for alteration in before.alterations):
        return _altered(plain, mutation, before.alterations, after.alterations)
    gone = tuple(axis for axis, size in narrow.mesh.sizes if size == 1)
    key, place = _identity(before.sites, mutation.site, gone)
    if key is None:
        return None
    if not key[2]:
        return plain
    alike = [site.number for site in after.sites if _key(site, gone) == key]
    if len(alike) != sum(_key(site, gone) == key for site in before.sites):
        return None
    return replace(plain, mutation=Mutation(operator=mutation.operator, site=alike[place]))


def _identity(sites: Sequence[Site], number: int, gone: tuple[str, ...]) -> tuple[Key | None, int]:
    """(what is known of a collective on both meshes, its place among those that are like it)"""
    site = next((site for site in sites if site.number == number), None)
    if site is None:
        return None, 0
    key = _key(site, gone)
    return key, [other.number for other in sites if _key(other, gone) == key].index(number)


def _key(site: Site, gone: tuple[str, ...]) -> Key:
    return site.phase, site.kind, tuple(axis for axis in site.axes if axis not in gone), site.reduction


def _altered(plain: Case, mutation: Mutation, before: Sequence[Alteration], after: Sequence[Alteration]) -> Case | None:
    """A change that an implementation makes itself goes with its axis, and keeps its number on the others."""
    made = next(
        (
            alteration
            for alteration in before
            if (alteration.operator, alteration.site) == (mutation.operator, mutation.site)
        ),
        None,
    )
    if made is None:
        return None
    if plain.mesh.size(made.axis) == 1:
        return plain
    kept = any(
        (alteration.operator, alteration.site, alteration.axis) == (made.operator, made.site, made.axis)
        for alteration in after
    )
    return replace(plain, mutation=mutation) if kept else None
