"""A traced JAX step evaluated device by device in numpy, so that every value in it can be seen and nothing is compiled.

Law: rank by rank the values are those of the mesh, up to the order of summation. Devices that take different branches
of a `cond` part there, and meet behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from conformance.contract.errors import ShardproofError
from conformance.contract.mesh import Mesh
from conformance.evidence.intermediates import Intermediates
from conformance.trace import jax_version as version
from conformance.trace.arithmetic import Ordinary
from conformance.trace.jax_collectives import Call
from conformance.trace.jax_devices import Devices, gathered, scattered
from conformance.trace.jax_equations import operated
from conformance.trace.jax_exchanged import exchanged, wrongly_exchanged
from conformance.trace.jax_mutants import Numbered, misfit
from conformance.trace.jax_ordered import bound, is_key
from conformance.trace.jax_places import Frame, Path, Place, at, children, collective_at
from conformance.trace.jax_values import Numbers, ValueRecorder
from conformance.trace.jax_version import ClosedJaxpr
from conformance.trace.operators import MutationError

MOST_TURNS = 64  # of a loop that are noted one by one; of a longer one the others are not
MOST_EQUATIONS = 400_000  # that are evaluated


class TooLongError(ShardproofError):
    """A program of more than MOST_EQUATIONS equations, loops written out."""


class Held(NamedTuple):
    """A value, dim 0 the device, and which noted values it stands for."""

    value: Any
    numbers: Numbers = frozenset()


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """The collective that is performed wrongly, and how."""

    site: Numbered
    operator: str


def intermediates(
    program: ClosedJaxpr, given: Sequence[Any], mesh: Mesh, observed: Mapping[int, str], wrong: Wrong | None
) -> Intermediates:
    """What every operation makes on every device; `observed`: number of a result -> the observation that it is.

    Raises MutationError where a wrong collective gives another shape, TooLongError, and ApartError where devices wait
    for each other.
    """
    evaluation = _Evaluation(mesh, wrong)
    with np.errstate(all="ignore"):
        results = evaluation.run(program, [Held(_stacked(x)) for x in given], Frame(), Devices.outside())
    numbers: dict[str, Numbers] = {}
    for number, name in observed.items():
        numbers[name] = numbers.get(name, frozenset()) | results[number].numbers
    return evaluation.recorder.intermediates(numbers)


class _Evaluation:
    def __init__(self, mesh: Mesh, wrong: Wrong | None) -> None:
        self.recorder, self._mesh, self._wrong = ValueRecorder(mesh), mesh, wrong
        self._arithmetic = Ordinary()
        self._sent: dict[Path, list[Any]] = {}
        self._equations = 0

    def run(self, program: ClosedJaxpr, args: Sequence[Held], frame: Frame, devices: Devices) -> list[Held]:
        jaxpr = program.jaxpr
        held: dict[Any, Held] = {
            variable: Held(_same(value, devices))
            for variable, value in zip(jaxpr.constvars, program.consts, strict=True)
        }
        held.update(zip(jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Held:
            if isinstance(atom, version.Literal):
                return Held(_same(np.asarray(atom.val, version.dtype(atom)), devices))
            return held[atom]

        last = _last_uses(jaxpr)
        for number, eqn in enumerate(jaxpr.eqns):
            place = at(frame, number, eqn)
            held.update(zip(eqn.outvars, self._equation(place, [read(a) for a in eqn.invars], devices), strict=True))
            for variable in last.get(number, ()):
                held.pop(variable, None)
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, place: Place, held: list[Held], devices: Devices) -> list[Held]:
        name = place.eqn.primitive.name
        if name in version.INLINED:
            ((program, frame),) = children(place.eqn, place.frame)
            return self.run(program, held, frame, devices)
        if name in _CONTROL:
            return _CONTROL[name](self, place, held, devices)
        self._count()
        call = place.call or collective_at(place.eqn, place.frame, alone=True)
        values = [each.value for each in held]
        if call is None:
            results = self._operation(place, values, devices)
            if name in version.CASTS:
                return [Held(x, each.numbers) for x, each in zip(results, held, strict=True)]
        else:
            results = self._collective(place, call, values, devices)
            self.recorder.exchange(place, values, results, devices)
        numbers = self.recorder.note(place, [each.numbers for each in held], results, devices)
        return [Held(x, own) for x, own in zip(results, numbers, strict=True)]

    def _count(self) -> None:
        self._equations += 1
        if self._equations > MOST_EQUATIONS:
            raise TooLongError(f"it has more than {MOST_EQUATIONS:,} equations, loops written out")

    def _operation(self, place: Place, values: list[Any], devices: Devices) -> list[Any]:
        if not any(map(is_key, values)):
            try:
                results = operated(self._arithmetic, place.eqn, values)
            except TypeError:  # numpy lacks the function for a narrow float
                results = None
            if results is not None:
                return results
        if all(map(_alike, values)):
            return [_same(out, devices) for out in bound(place.eqn, [value[0] for value in values])]
        runs = [bound(place.eqn, [value[n] for value in values]) for n in range(len(devices))]
        return [_side_by_side(of) for of in zip(*runs, strict=True)]

    def _collective(self, place: Place, call: Call, values: list[Any], devices: Devices) -> list[Any]:
        wrong, path = self._wrong, place.frame.path
        self._sent[path] = values
        if wrong is None or wrong.site.path != path:
            return exchanged(call, values, devices)
        pairs = zip(values, wrong.site.earlier, strict=False)
        stale = [x if where is None else self._sent[where[0]][where[1]] for x, where in pairs]
        results = wrongly_exchanged(call, wrong.operator, values, stale, devices, self._mesh)
        if sentence := misfit(wrong.site, wrong.operator, place, [x.shape[1:] for x in results]):
            raise MutationError(sentence)
        return results

    def shard_map(self, place: Place, held: list[Held], devices: Devices) -> list[Held]:
        ((program, frame),), params = children(place.eqn, place.frame), place.eqn.params
        axes = version.manual_axes(place.eqn)
        given = [
            Held(scattered(each.value, spec, axes), each.numbers)
            for each, spec in zip(held, params["in_specs"], strict=True)
        ]
        outs = self.run(program, given, frame, devices.divided(axes))
        return [
            Held(gathered(out.value, spec, axes), out.numbers)
            for out, spec in zip(outs, params["out_specs"], strict=True)
        ]

    def cond(self, place: Place, held: list[Held], devices: Devices) -> list[Held]:
        """Devices that take the same branch go through it together."""
        branches = children(place.eqn, place.frame)
        taken = np.clip(np.asarray(held[0].value).astype(int), 0, len(branches) - 1)
        parts, order = [], []
        for branch in sorted(set(taken.tolist())):
            chosen = np.flatnonzero(taken == branch)
            program, frame = branches[branch]
            parts.append(self.run(program, [_of(each, chosen) for each in held[1:]], frame, devices.some(chosen)))
            order.append(chosen)
        back = np.argsort(np.concatenate(order))
        return [_joined(of, back) for of in zip(*parts, strict=True)]

    def scan(self, place: Place, held: list[Held], devices: Devices) -> list[Held]:
        ((program, frame),), params = children(place.eqn, place.frame), place.eqn.params
        (n_consts, n_carry), length = version.scanned(place.eqn), params["length"]
        consts, carry, xs = held[:n_consts], held[n_consts : n_consts + n_carry], held[n_consts + n_carry :]
        made: dict[int, list[Held]] = {}
        for count, turn in enumerate(reversed(range(length)) if params["reverse"] else range(length)):
            given = [*consts, *carry, *(Held(x.value[:, turn], x.numbers) for x in xs)]
            outs = self._turn(count, program, given, frame, devices)
            carry, made[turn] = outs[:n_carry], outs[n_carry:]
        if not length:
            empty = (np.zeros((len(devices), *version.shape(v)), version.dtype(v)) for v in place.eqn.outvars[n_carry:])
            return [*carry, *map(Held, empty)]
        return [*carry, *(_turns(of) for of in zip(*(made[turn] for turn in range(length)), strict=True))]

    def while_loop(self, place: Place, held: list[Held], devices: Devices) -> list[Held]:
        """Devices whose condition no longer holds stay as they are."""
        ((cond, cond_frame), (body, body_frame)), params = children(place.eqn, place.frame), place.eqn.params
        n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
        cond_consts, body_consts, state = held[:n_cond], held[n_cond : n_cond + n_body], held[n_cond + n_body :]
        count = 0
        while True:
            with self.recorder.silent():
                going = np.array(self.run(cond, [*cond_consts, *state], cond_frame, devices)[0].value, bool)
            if not going.any():
                return state
            chosen, others = np.flatnonzero(going), np.flatnonzero(~going)
            given = [_of(each, chosen) for each in (*body_consts, *state)]
            outs = self._turn(count, body, given, body_frame, devices.some(chosen))
            back = np.argsort(np.concatenate([chosen, others]))
            state = [_joined((new, _of(old, others)), back) for new, old in zip(outs, state, strict=True)]
            count += 1

    def _turn(self, count: int, program: ClosedJaxpr, given: list[Held], frame: Frame, devices: Devices) -> list[Held]:
        if count < MOST_TURNS:
            return self.run(program, given, frame, devices)
        with self.recorder.silent():
            return self.run(program, given, frame, devices)


def _stacked(value: Any) -> Any:
    """As the one device that stands for all outside of a shard_map."""
    return value[None] if is_key(value) else np.asarray(value)[None]


def _same(value: Any, devices: Devices) -> Any:
    """One value on all devices."""
    if is_key(value):
        return jax.numpy.broadcast_to(value, (len(devices), *value.shape))
    array = np.asarray(value)
    return np.broadcast_to(array, (len(devices), *array.shape))


def _alike(value: Any) -> bool:
    if is_key(value):
        return len(value) == 1
    return value.strides[0] == 0 or len(value) == 1


def _side_by_side(values: Sequence[Any]) -> Any:
    return jax.numpy.stack(values) if is_key(values[0]) else np.stack([np.asarray(value) for value in values])


def _of(held: Held, chosen: np.ndarray) -> Held:
    same = not is_key(held.value) and held.value.strides[0] == 0  # stays one value for all
    return Held(held.value[: len(chosen)] if same else held.value[chosen], held.numbers)


def _joined(parts: Sequence[Held], back: np.ndarray) -> Held:
    """What came of several branches, as the devices lay before they parted."""
    whole = [part for part in parts if len(part.value)]
    numbers = frozenset[int]().union(*(part.numbers for part in whole))
    if len(whole) == 1:
        return Held(whole[0].value, numbers)
    together = jax.numpy.concatenate if is_key(whole[0].value) else np.concatenate
    return Held(together([part.value for part in whole])[back], numbers)


def _turns(turns: Sequence[Held]) -> Held:
    stack = jax.numpy.stack if is_key(turns[0].value) else np.stack
    numbers = frozenset[int]().union(*(turn.numbers for turn in turns))
    return Held(stack([turn.value for turn in turns], axis=1), numbers)


def _last_uses(jaxpr: version.Jaxpr) -> dict[int, list[Any]]:
    """Number of an equation -> the values that nothing behind it takes."""
    last: dict[Any, int] = {}
    for number, eqn in enumerate(jaxpr.eqns):
        for atom in (*eqn.invars, *eqn.outvars):
            if not isinstance(atom, version.Literal):
                last[atom] = number
    for atom in jaxpr.outvars:
        if not isinstance(atom, version.Literal):
            last.pop(atom, None)
    ends: dict[int, list[Any]] = {}
    for variable, number in last.items():
        ends.setdefault(number, []).append(variable)
    return ends


_CONTROL: dict[str, Callable[[_Evaluation, Place, list[Held], Devices], list[Held]]] = {
    "shard_map": _Evaluation.shard_map,
    "cond": _Evaluation.cond,
    "scan": _Evaluation.scan,
    "while": _Evaluation.while_loop,
}
