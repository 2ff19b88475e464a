"""What a collective has done with what it was given: from its kind follows what every rank should get.

Of a collective that gives something else, it is looked for what it has done instead. Values of one device are not
needed for that: counts, which many values are by chance, tell as much as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.blocks import CLOSE, Blocks, combined
from conformance.diagnosis.inside.kinds import REDUCTIONS
from conformance.diagnosis.inside.reductions import mistakes
from conformance.evidence.intermediates import Exchange, Intermediates
from conformance.records.results import Cause

SEEN = 0.95  # how sure it is what a collective made of what it was given
PLACES = 3  # parts of a path that are said

Group = Sequence[np.ndarray]  # what the ranks of one group hold, in order along the axis
Law = Callable[[Exchange, Group, int], np.ndarray]  # (exchange, what was given, place in the group) -> what comes there


def broken_exchange(wide: Intermediates, mesh: Mesh) -> Iterator[Cause]:
    """The first collective that gives something else than its kind says, where it is known what it has done."""
    for number, exchange in enumerate(wide.exchanges):
        if not _is_known(exchange, mesh) or _same(exchange.got, _lawful(exchange, mesh)):
            continue
        words = next(_instead(exchange, wide.exchanges[:number], mesh), None)
        if words is not None:
            yield from _causes(words, exchange)
            return


def _causes(words: str, exchange: Exchange) -> Iterator[Cause]:
    """One for each of its axes: further runs show which of them has part in it."""
    spoken = f"{exchange.kind} over {' and '.join(exchange.axes)} at {line(exchange.place)}"
    law = "the sum of what its ranks are given" if exchange.reduction else "what its ranks are given, in their order"
    for axis in exchange.axes:
        yield Cause(
            cause=f"{words}: {spoken}",
            axis=axis,
            confidence=SEEN,
            axis_confidence=SEEN,
            basis=f"what {spoken} gives is not {law}",
        )


def line(place: str) -> str:
    """The end of the path, and the line."""
    return "/".join(Path(place).parts[-PLACES:]) if place else "an unknown line"


def _is_known(exchange: Exchange, mesh: Mesh) -> bool:
    """Whether what it should give follows from its kind, and all ranks have handed in blocks of one shape."""
    along_one = len(exchange.axes) == 1 and exchange.kind in _LAWS
    known = exchange.reduction in (None, "sum") and (along_one or exchange.kind == "all_reduce")
    held = [*exchange.given.values(), *exchange.got.values()]
    shapes = {x.shape for x in exchange.given.values()}, {x.shape for x in exchange.got.values()}
    everywhere = len(exchange.given) == len(exchange.got) == mesh.devices and all(len(each) == 1 for each in shapes)
    return known and everywhere and all(np.isfinite(x).all() for x in held)


def _lawful(exchange: Exchange, mesh: Mesh) -> Blocks:
    if exchange.kind == "all_reduce":
        return combined(exchange.given, exchange.axes, mesh)
    return _along(exchange, exchange.axes[0], _LAWS[exchange.kind], mesh)


def _along(exchange: Exchange, axis: str, law: Law, mesh: Mesh) -> Blocks:
    """What every rank gets in its group along an axis."""
    got = {}
    for group in mesh.groups(axis):
        given = [exchange.given[rank] for rank in group]
        got.update({rank: law(exchange, given, place) for place, rank in enumerate(group)})
    return got


def _instead(exchange: Exchange, earlier: Sequence[Exchange], mesh: Mesh) -> Iterator[str]:
    """What it has done instead."""
    if exchange.kind in REDUCTIONS:
        yield from _summed_otherwise(exchange, mesh)
    if exchange.kind != "all_reduce":
        yield from _delivered_otherwise(exchange, mesh)
    for other in reversed(earlier):
        shapes = [[x.shape for x in each.given.values()] for each in (other, exchange)]
        if shapes[0] == shapes[1] and _same(exchange.got, _lawful(replace(exchange, given=other.given), mesh)):
            yield f"stale: what was given to {other.kind} at {line(other.place)} is sent once more"


def _summed_otherwise(exchange: Exchange, mesh: Mesh) -> Iterator[str]:
    """Every rank gets its part of what else may have been made of the operands."""
    for words, values in mistakes(exchange.given, exchange.axes, mesh):
        if exchange.kind == "reduce_scatter":
            values = _along(replace(exchange, given=values), exchange.axes[0], _own_part, mesh)
        if _same(exchange.got, values):
            yield words


def _delivered_otherwise(exchange: Exchange, mesh: Mesh) -> Iterator[str]:
    """Blocks that come from elsewhere."""
    axis, law = exchange.axes[0], _LAWS[exchange.kind]
    if exchange.kind not in REDUCTIONS and _same(exchange.got, exchange.given):
        yield "not combined: every rank keeps its own operand"
    if _same(exchange.got, _along(exchange, axis, _alone(law), mesh)):
        yield "something local was taken for global: every rank gets its own operand alone"
    for words, other in _moved(exchange, law, mesh.size(axis)):
        if _same(exchange.got, _along(exchange, axis, other, mesh)):
            yield words
    for other_axis, size in mesh.sizes:
        alike = other_axis != axis and size == mesh.size(axis)
        if alike and _same(exchange.got, _along(exchange, other_axis, law, mesh)):
            yield f"runs over {other_axis} instead of {axis}"


def _moved(exchange: Exchange, law: Law, size: int) -> Iterator[tuple[str, Law]]:
    """(how it is spoken of, what would come) of the ways to go round the axis otherwise."""
    for further in range(1, size):
        yield f"shards permuted: every block comes from {further} further along the axis", _from(law, further)
        yield f"shards permuted: every rank gets what is for the one {further} further", _for(law, further)
    if exchange.kind == "permute":
        yield "shards permuted: every message travels the other way", _reversed
        yield "shards permuted: every message travels twice", _twice


def _gathered(exchange: Exchange, given: Group, place: int) -> np.ndarray:
    return _joined(exchange, given, exchange.dim)


def _scattered(exchange: Exchange, given: Group, place: int) -> np.ndarray:
    return _part(exchange, np.sum(given, axis=0), place, len(given))


def _exchanged(exchange: Exchange, given: Group, place: int) -> np.ndarray:
    return _joined(exchange, [_part(exchange, x, place, len(given)) for x in given], exchange.concat)


def _sent(exchange: Exchange, given: Group, place: int) -> np.ndarray:
    sources = {destination: source for source, destination in exchange.pairs}
    return given[sources[place]] if place in sources else np.zeros_like(given[place])


_LAWS: dict[str, Law] = {
    "all_gather": _gathered,
    "all_to_all": _exchanged,
    "permute": _sent,
    "reduce_scatter": _scattered,
}


def _own_part(exchange: Exchange, given: Group, place: int) -> np.ndarray:
    return _part(exchange, given[place], place, len(given))


def _part(exchange: Exchange, x: np.ndarray, place: int, size: int) -> np.ndarray:
    """The block with this number of a value that is split along `dim`; nothing where it does not split."""
    if not exchange.tiled:
        taken: np.ndarray = np.take(x, place, axis=exchange.dim)
        return taken
    return np.split(x, size, axis=exchange.dim)[place] if x.shape[exchange.dim] % size == 0 else np.empty(0)


def _joined(exchange: Exchange, parts: Group, dim: int) -> np.ndarray:
    return np.concatenate(parts, axis=dim) if exchange.tiled else np.stack(parts, axis=dim)


def _alone(law: Law) -> Law:
    """As if all ranks of the group had given what this one has."""
    return lambda exchange, given, place: law(exchange, [given[place]] * len(given), place)


def _from(law: Law, further: int) -> Law:
    return lambda exchange, given, place: law(exchange, [*given[further:], *given[:further]], place)


def _for(law: Law, further: int) -> Law:
    return lambda exchange, given, place: law(exchange, given, (place + further) % len(given))


def _reversed(exchange: Exchange, given: Group, place: int) -> np.ndarray:
    pairs = tuple((destination, source) for source, destination in exchange.pairs)
    return _sent(replace(exchange, pairs=pairs), given, place)


def _twice(exchange: Exchange, given: Group, place: int) -> np.ndarray:
    return _sent(exchange, [_sent(exchange, given, other) for other in range(len(given))], place)


def _same(got: Blocks, other: Blocks) -> bool:
    slack = CLOSE * max(float(np.abs(x).max(initial=0.0)) for x in (*got.values(), *other.values()))
    return all(
        got[rank].size == other[rank].size and bool((np.abs(got[rank].ravel() - other[rank].ravel()) <= slack).all())
        for rank in got
    )
