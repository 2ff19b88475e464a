"""A traced JAX step evaluated in stochastic arithmetic: equation by equation in numpy, so that nothing is compiled.

Law: where nothing rounds the evaluation equals the program bit for bit. What is not in the tables of numpy operations
is left to JAX, one equation at a time. The program is that of one device: it holds no collective.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from conformance.evidence.arithmetic import Operation
from conformance.trace import jax_version as version
from conformance.trace.dataflow import Node
from conformance.trace.jax_dataflow import JaxFlow
from conformance.trace.jax_equations import operated
from conformance.trace.jax_numpy import DATA_MOVEMENT
from conformance.trace.jax_ordered import bound, is_key
from conformance.trace.jax_version import ClosedJaxpr, JaxprEqn
from conformance.trace.lower_precision import lower_precision, unaffected
from conformance.trace.stochastic import Stochastic

MOST_LOOP_EQUATIONS = 30_000  # that a loop may run through; a longer one is run compiled, and only its results round
Step = Callable[[Any, Any], tuple[Any, Any]]
Leaves = list[Any]


class StochasticStep:
    """A training step, traced when its arguments first have some tree and shapes, and evaluated for several members.

    `lower` is what the traced step rounds to fewer bits than float64, `exact` is observed before that.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self.lower: tuple[Operation, ...] = ()
        self.exact: frozenset[str] = frozenset()
        self._traced: dict[Any, tuple[ClosedJaxpr, Any]] = {}

    def __call__(
        self, states: Sequence[Any], batches: Sequence[Any], arithmetic: Stochastic
    ) -> list[tuple[Any, dict[str, Any]]]:
        """One step of every member -> its (state, observations), numpy arrays. Raises whatever tracing raises."""
        members = [jax.tree_util.tree_flatten(pair) for pair in zip(states, batches, strict=True)]
        program, out = self._program(states[0], batches[0], *members[0])
        stacked = [np.stack(list(map(np.asarray, of))) for of in zip(*(leaves for leaves, _ in members), strict=True)]
        with np.errstate(all="ignore"):
            results = _Evaluation(arithmetic, len(members)).run(program, stacked)
        results = [_numpy(result, len(members)) for result in results]
        return [jax.tree_util.tree_unflatten(out, [result[n] for result in results]) for n in range(len(members))]

    def _program(self, state: Any, batch: Any, leaves: Leaves, tree: Any) -> tuple[ClosedJaxpr, Any]:
        key = tree, tuple((np.shape(leaf), str(np.asarray(leaf).dtype)) for leaf in leaves)
        if key not in self._traced:
            traced, shape = jax.make_jaxpr(self._step, return_shape=True)(state, batch)
            self._traced[key] = traced, jax.tree_util.tree_structure(shape)
            flow = JaxFlow(traced.jaxpr, bits=64, values=leaves)
            self.lower = lower_precision(flow.nodes, flow.results)
            self.exact = unaffected(flow.nodes, _named(shape[1], flow.results))
        return self._traced[key]


def _named(observed: Mapping[str, Any], results: Sequence[Node]) -> dict[str, Node]:
    """Observation -> its node; what is observed is returned last, in the order of its keys."""
    names = sorted(name for name, value in observed.items() if value is not None)
    return dict(zip(names, results[len(results) - len(names) :], strict=True))


class _TooLong(Exception):  # noqa: N818
    """A loop would run through more than MOST_LOOP_EQUATIONS equations."""


class _Evaluation:
    """A program for `members` at once: dim 0 of every numpy array is the member; a JAX array is that of all of them."""

    def __init__(self, arithmetic: Stochastic, members: int) -> None:
        self.arithmetic, self.members = arithmetic, members

    def run(self, program: ClosedJaxpr, args: Leaves) -> Leaves:
        jaxpr = program.jaxpr
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, map(self._shared, program.consts), strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Any:
            return (
                self._shared(np.asarray(atom.val, version.dtype(atom)))
                if type(atom) is version.Literal
                else values[atom]
            )

        for eqn in jaxpr.eqns:
            outs = self._equation(eqn, [read(atom) for atom in eqn.invars])
            values.update(zip(eqn.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _shared(self, value: Any) -> Any:
        """One value for all members."""
        if is_key(value):
            return value
        array = np.asarray(value)
        return np.broadcast_to(array, (self.members, *array.shape))

    def _equation(self, eqn: JaxprEqn, values: Leaves) -> Leaves:
        name = eqn.primitive.name
        if (results := operated(self.arithmetic, eqn, values)) is not None:
            return results
        if name in version.INLINED:
            return self.run(version.inner(eqn), values)
        if name in _CONTROL:
            try:
                return _CONTROL[name](self, eqn, values)
            except _TooLong:
                pass
        return self._left_to_jax(eqn, values)

    def _left_to_jax(self, eqn: JaxprEqn, values: Leaves) -> Leaves:
        """Member by member; once where all members have the same operands."""
        if all(is_key(value) or _alike(value) for value in values):
            return [self._shared(out) for out in bound(eqn, [_of(value, 0) for value in values])]
        runs = [bound(eqn, [_of(value, member) for value in values]) for member in range(self.members)]
        outs = [np.stack([np.asarray(out) for out in of]) for of in zip(*runs, strict=True)]
        return outs if eqn.primitive.name in DATA_MOVEMENT else [self.arithmetic.rounded(out) for out in outs]

    def cond(self, eqn: JaxprEqn, values: Leaves) -> Leaves:
        """Members that take the same branch go through it together."""
        branches = eqn.params["branches"]
        taken = np.clip(np.asarray(values[0]).astype(int), 0, len(branches) - 1)
        merged: list[np.ndarray] | None = None
        for branch in sorted(set(taken.tolist())):
            chosen = taken == branch
            outs = self._of_some(branches[branch], values[1:], chosen)
            merged = merged or [np.zeros((self.members, *out.shape[1:]), out.dtype) for out in outs]
            for whole, out in zip(merged, outs, strict=True):
                whole[chosen] = out
        return merged or []

    def _of_some(self, program: ClosedJaxpr, values: Leaves, chosen: np.ndarray) -> Leaves:
        some = _Evaluation(self.arithmetic, int(chosen.sum()))
        outs = some.run(program, [value if is_key(value) else value[chosen] for value in values])
        return [_numpy(out, some.members) for out in outs]

    def scan(self, eqn: JaxprEqn, values: Leaves) -> Leaves:
        params, program = eqn.params, version.inner(eqn)
        (n_consts, n_carry), length = version.scanned(eqn), params["length"]
        _refuse_long(length, program)
        consts, carry, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]
        stacked: dict[int, Leaves] = {}
        for turn in reversed(range(length)) if params["reverse"] else range(length):
            outs = self.run(program, [*consts, *carry, *(x[turn] if is_key(x) else x[:, turn] for x in xs)])
            carry, stacked[turn] = outs[:n_carry], outs[n_carry:]
        if not length:
            return [
                *carry,
                *(self._shared(np.zeros(version.shape(v), version.dtype(v))) for v in eqn.outvars[n_carry:]),
            ]
        ys = zip(*(stacked[turn] for turn in range(length)), strict=True)
        return [*carry, *(np.stack(of, axis=1) for of in ys)]

    def while_loop(self, eqn: JaxprEqn, values: Leaves) -> Leaves:
        """Members whose condition no longer holds stay as they are."""
        params, n_cond, n_body = eqn.params, eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        cond, body = params["cond_jaxpr"], params["body_jaxpr"]
        cond_consts, body_consts, state = values[:n_cond], values[n_cond : n_cond + n_body], values[n_cond + n_body :]
        turns = 0
        while (going := np.array(self.run(cond, [*cond_consts, *state])[0], dtype=bool)).any():
            turns += 1
            _refuse_long(turns, body)
            outs = self._of_some(body, [*body_consts, *state], going)
            state = [_replaced(value, going, out) for value, out in zip(state, outs, strict=True)]
        return state


def _replaced(value: Any, chosen: np.ndarray, new: Any) -> Any:
    if is_key(new):
        return new
    whole = np.array(value)
    whole[chosen] = new
    return whole


def _refuse_long(turns: int, program: ClosedJaxpr) -> None:
    if turns * _size(program) > MOST_LOOP_EQUATIONS:
        raise _TooLong


def _size(program: ClosedJaxpr) -> int:
    return sum(1 + sum(map(_size, _programs(eqn))) for eqn in program.jaxpr.eqns)


def _programs(eqn: JaxprEqn) -> Iterator[ClosedJaxpr]:
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else [value]:
            if isinstance(item, ClosedJaxpr):
                yield item


def _alike(value: np.ndarray) -> bool:
    return value.strides[0] == 0 or value.shape[0] == 1 or bool((value == value[:1]).all())


def _of(value: Any, member: int) -> Any:
    return value if is_key(value) else value[member]


def _numpy(value: Any, members: int) -> Any:
    return np.broadcast_to(value, (members, *value.shape)) if is_key(value) else value


_CONTROL: dict[str, Callable[[_Evaluation, JaxprEqn, Leaves], Leaves]] = {
    "cond": _Evaluation.cond,
    "scan": _Evaluation.scan,
    "while": _Evaluation.while_loop,
}
