"""The data flow of a traced JAX step, through every call, loop and branch in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from conformance.evidence.arithmetic import BITS
from conformance.trace import jax_version as version
from conformance.trace.dataflow import ADD, COLLECTIVE, EXP, LOG, MOVE, OTHER, REDUCE, ROOT, Node
from conformance.trace.jax_collectives import KINDS
from conformance.trace.jax_places import Frame, Place, at, children
from conformance.trace.jax_version import Jaxpr
from conformance.trace.lower_precision import CONSTANT, is_exact, settle

_KINDS = {"add": ADD, "sub": ADD, "add_any": ADD, "reduce_sum": REDUCE, "exp": EXP, "exp2": EXP, "log": LOG}
_KINDS |= {"rsqrt": ROOT, "sqrt": ROOT}
_SCALES = ("mul", "div")
# Operations that move, repeat or convert elements -> which operands they take them from.
_MOVES: dict[str, slice] = {
    **dict.fromkeys(("dynamic_slice", "gather", "pad", "split"), slice(1)),
    **dict.fromkeys((*version.CASTS, *version.MOVES), slice(None)),
    "dynamic_update_slice": slice(2),
    "select_n": slice(1, None),
    "scatter": slice(None),
}
# Operations that make whole numbers of whole numbers.
_WHOLE = frozenset((
    *_MOVES, "abs", "add", "add_any", "bitcast_convert_type", "ceil", "clamp", "cummax", "cumsum", "dot_general",
    "floor", "iota", "max", "min", "mul", "reduce_max", "reduce_min", "reduce_sum", "rem", "round", "scatter-add",
    "scatter_add", "sign", "sort", "square", "stop_gradient", "sub",
))  # fmt: skip
_CONTROL = ("scan", "while", "cond")
_DRAWS = ("random_", "threefry2x32", "rng_")


class JaxFlow:
    """The nodes of a program; `results` are those of its results, in order.

    bits    lines of the program are noted of what is done in fewer bits
    values  those of the inputs, as far as they are known
    """

    def __init__(self, jaxpr: Jaxpr, bits: int = 32, values: Sequence[Any] = ()) -> None:
        self.nodes: list[Node] = []
        self._bits = bits
        inputs = [self._leaf(variable) for variable in jaxpr.invars]
        for node, value in zip(inputs, values, strict=False):
            node.exact = node.dtype in BITS and _holds_whole(value)
        self.results = self._run(jaxpr, inputs, Frame())

    def _leaf(self, atom: Any) -> Node:
        constant = isinstance(atom, version.Literal)
        node = Node(kind=OTHER, name=CONSTANT if constant else "input", dtype=_dtype(atom), uniform=_is_scalar(atom))
        node.exact = constant and node.dtype in BITS and is_exact(np.asarray(atom.val))
        return node

    def _run(self, jaxpr: Jaxpr, inputs: list[Node], frame: Frame) -> list[Node]:
        known = dict(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Node:
            return self._leaf(atom) if isinstance(atom, version.Literal) or atom not in known else known[atom]

        for number, eqn in enumerate(jaxpr.eqns):
            made = self._made(at(frame, number, eqn), [read(atom) for atom in eqn.invars])
            known.update(zip(eqn.outvars, made, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _made(self, place: Place, sources: list[Node]) -> list[Node]:
        name, params = place.eqn.primitive.name, place.eqn.params
        programs = children(place.eqn, place.frame)
        if name == "scan":
            return self._loop(place, sources, *version.scanned(place.eqn))
        if name == "while":
            return self._loop(place, sources[params["cond_nconsts"] :], params["body_nconsts"], None)
        if name == "cond":
            branches = [self._run(program.jaxpr, sources[1:], frame) for program, frame in programs]
            return [self._node(place, n, MOVE, list(ends)) for n, ends in enumerate(zip(*branches, strict=True))]
        if programs:
            ((program, frame),) = programs
            return self._run(program.jaxpr, sources, frame)
        return [self._one(place, number, sources) for number in range(len(place.eqn.outvars))]

    def _loop(self, place: Place, sources: list[Node], consts: int, carried: int | None) -> list[Node]:
        """What is carried comes from the start and from the end of the body."""
        program, frame = children(place.eqn, place.frame)[-1]
        carried = len(sources) - consts if carried is None else carried
        carry = [self._node(place, n, MOVE, [start]) for n, start in enumerate(sources[consts : consts + carried])]
        ends = self._run(program.jaxpr, [*sources[:consts], *carry, *sources[consts + carried :]], frame)
        for begin, end in zip(carry, ends, strict=False):
            begin.sources.append(end)
            begin.operands.append(end)
        return ends

    def _one(self, place: Place, number: int, sources: list[Node]) -> Node:
        name, backward, operands = place.eqn.primitive.name, is_backward(place), sources
        if name == "optimization_barrier" or (name in KINDS and sources):
            sources = [sources[number]]
        if name in KINDS:
            return self._collective(place, number, sources)
        if name in _SCALES:
            scaled = _scaled(sources, backward)
            return self._node(place, number, MOVE if scaled else OTHER, scaled, operands)
        if name in _MOVES:
            return self._node(place, number, MOVE, sources[_MOVES[name]], operands)
        if name == "scatter-add" and not backward:
            return self._node(place, number, MOVE, [sources[0], sources[2]], operands)
        kind = _KINDS.get(name, OTHER)
        # The terms of one differentiation: a parameter that is used twice.
        known = sources if kind != OTHER else []
        return self._node(place, number, MOVE if kind == ADD and backward else kind, known, operands)

    def _collective(self, place: Place, number: int, sources: list[Node]) -> Node:
        if place.call is None:  # nobody takes part but the device itself
            return self._node(place, number, MOVE, sources)
        node = self._node(place, number, COLLECTIVE, sources)
        node.name, node.axes, node.sums = place.call.kind, place.call.axes, place.call.reduction == "sum"
        return node

    def _node(
        self, place: Place, number: int, kind: str, sources: list[Node], operands: list[Node] | None = None
    ) -> Node:
        eqn, name = place.eqn, place.eqn.primitive.name
        result = eqn.outvars[number]
        dtype = version.rounded_to(eqn) or _dtype(result)
        uniform = _is_scalar(result) or (kind == MOVE and bool(sources) and all(source.uniform for source in sources))
        node = Node(kind=kind, name=name, dtype=dtype, sources=sources, uniform=uniform)
        node.derived = is_backward(place) or any(source.derived for source in sources)
        node.backward = 0 if is_backward(place) else None
        moves = name in _MOVES or name in _CONTROL or (name in KINDS and name not in version.REDUCTIONS)
        drawn = name.startswith(_DRAWS)
        whole = moves or name in _WHOLE or name in version.REDUCTIONS
        settle(node, sources if operands is None else operands, moves=moves, whole=whole, drawn=drawn)
        if BITS.get(dtype, 64) < self._bits:
            node.place = version.user_line(eqn)
        self.nodes.append(node)
        return node


def is_backward(place: Place) -> bool:
    return re.search(r"\btranspose\(|\bbackward\b", place.frame.names) is not None


def _holds_whole(value: Any) -> bool:
    """Whether an input is made of whole numbers, as far as it can still be read: a step may have donated it."""
    with suppress(RuntimeError):
        return is_exact(np.asarray(value))
    return False


def _scaled(sources: list[Node], backward: bool) -> list[Node]:
    """What a product or quotient with one number scales; nothing where both operands vary."""
    varying = [source for source in sources if not source.uniform]
    if varying:
        return varying if len(varying) == 1 else []
    return [] if backward else sources[:1]


def _dtype(atom: Any) -> str:
    return str(getattr(atom.aval, "dtype", ""))


def _is_scalar(atom: Any) -> bool:
    return getattr(atom.aval, "shape", None) == ()
