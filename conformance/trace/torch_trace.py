"""The watched torch step: what one rank communicates and multiplies, and the same step with one collective changed.

Both watchers are dispatch modes. Everything that communicates passes the dispatcher on the thread of the step, under
one of the names in `torch_collectives`: plain and asynchronous torch.distributed calls (c10d hands back its Work beside
the tensors), functional collectives, those that autograd issues in backward, and those that DTensor issues inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch._dynamo  # the first dispatch mode imports it anyway, for seconds: better before a fork server forks
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only

from conformance.cases.case import Mutation
from conformance.cases.raised import said
from conformance.contract.implementation import CollectiveKind, Phase, Traffic
from conformance.contract.mesh import Mesh
from conformance.evidence.arithmetic import Operation
from conformance.evidence.evidence import Computed
from conformance.trace.calls import Calls
from conformance.trace.dataflow import narrow_arithmetic
from conformance.trace.lower_precision import lower_precision
from conformance.trace.operators import Collective, MutationError, applicable, other_axes
from conformance.trace.site import Site
from conformance.trace.torch_collectives import Call, group_of, is_collective, is_receipt, shaped, write
from conformance.trace.torch_computed import Results
from conformance.trace.torch_dataflow import TorchFlow
from conformance.trace.torch_flops import product_flops
from conformance.trace.torch_leaves import is_view, leaves
from conformance.trace.torch_mutants import MUTANTS, perform
from conformance.trace.torch_watcher import Key, Watcher, finish, in_backward, is_imagined, key

_MUTABLE = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One collective that a rank issued."""

    kind: CollectiveKind
    what: Collective
    backward: bool
    payloads: tuple[tuple[str, int], ...]  # dtype and bytes of each operand


class Recorder(Watcher):
    """`with Recorder(mesh, device_mesh) as recorder:` around one step of one rank; `bits` as in TorchFlow."""

    def __init__(self, mesh: Mesh, device_mesh: Any, bits: int = 32) -> None:
        super().__init__(mesh, device_mesh)
        self.unseen: dict[str, str] = {}  # as in Evidence
        self._seen: list[Seen] = []
        self._operators: list[tuple[str, ...]] = []
        self._flops = 0
        self._results: Results | None = Results()
        self._at_last_backward: int | None = None  # collectives seen when autograd was last at work
        self._flow: TorchFlow | None = TorchFlow(bits)

    def operation(self, func: Any, args: Any, kwargs: Any) -> Any:
        out = self._carried_out(func, args, kwargs)
        if not isinstance(func, torch._ops.OpOverload) or is_view(func):  # nothing is computed
            return out
        if not any(map(is_imagined, leaves((args, out)))):
            self._flops += product_flops(func, args, kwargs, out)
            self._note(func, args, kwargs, out)
            received = self._received(func, args)
            if received is None:
                self._follow(lambda flow: flow.operation(func, args, kwargs, out))
            else:
                self._follow(lambda flow: flow.collective("permute", received, False, (), args[0]))
        return out

    def _follow(self, told: Callable[[TorchFlow], None]) -> None:
        """A tensor without a memory of its own (a sparse one, a subclass) ends the following, and never the step."""
        try:
            if self._flow is not None:
                told(self._flow)
        except Exception as failure:
            self._flow = None
            self.unseen["arithmetic"] = f"a tensor has no memory of its own ({said(failure)})"

    def _note(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Nor does a result without bits of its own end the step: then what was computed is not known."""
        try:
            if self._results is not None:
                self._results.add(func, args, kwargs, out)
        except Exception as failure:
            self._results = None
            self.unseen["work"] = f"a result has no bits of its own ({said(failure)})"

    def _carried_out(self, func: Any, args: Any, kwargs: Any) -> Any:
        out = func(*args, **kwargs)
        if in_backward():
            self._at_last_backward = len(self._seen)
        return out

    def _received(self, func: Any, args: Any) -> tuple[str, ...] | None:
        """The axes along which a message came in; None for any other operation."""
        return self.groups.axes(group_of(args[1])) if is_collective(func) and is_receipt(func) else None

    def collective(self, call: Call, what: Collective, func: Any, args: Any, kwargs: Any) -> Any:
        seen = Seen(kind=call.kind, what=what, backward=in_backward(), payloads=call.payloads)
        self._seen.append(seen)
        self._operators.append(applicable(what, self.mesh) if call.even and call.kind in _MUTABLE else ())
        out = self._carried_out(func, args, kwargs)
        sums = call.reduction in ("sum", "mean")
        outputs = out if call.outputs is None else call.outputs
        self._follow(lambda flow: flow.collective(call.kind, what.axes, sums, (args, kwargs), outputs))
        return out

    def _phase(self, number: int) -> Phase:
        """`backward` when autograd issued it, `update` after the last work of autograd in the step, else `forward`."""
        if self._seen[number].backward:
            return "backward"
        return "update" if self._at_last_backward is not None and number >= self._at_last_backward else "forward"

    def traffic(self) -> tuple[Traffic, ...]:
        """Calls and payload bytes of this rank by kind, axes, phase and dtype; of a message the sending end counts."""
        calls = Calls()
        for number, seen in enumerate(self._seen):
            for dtype, size in seen.payloads:
                calls.add(seen.kind, seen.what.axes, self._phase(number), dtype, size)
        return calls.traffic()

    def flops(self) -> int:
        """Matrix-product operations of this rank."""
        return self._flops

    def arithmetic(self, observed: Mapping[str, torch.Tensor]) -> tuple[Operation, ...] | None:
        """The narrow arithmetic of this rank, whose observations are these local tensors; None where not known."""
        flow = self._flow
        return None if flow is None else narrow_arithmetic(flow.nodes, {n: flow.node(x) for n, x in observed.items()})

    def computed(self) -> Computed | None:
        """What this rank computed; None where not known."""
        return None if self._results is None else self._results.computed()

    def lower_precision(self, results: Iterable[torch.Tensor]) -> tuple[Operation, ...] | None:
        """What this rank rounds to fewer bits than float64 on its way to these local tensors; None where not known."""
        flow = self._flow
        return None if flow is None else lower_precision(flow.nodes, [flow.node(x) for x in results])

    def sites(self) -> tuple[Site, ...]:
        """Every collective in order of issue, with the operators that apply to it."""
        return tuple(
            Site(
                number=number,
                kind=seen.what.kind,
                axes=seen.what.axes,
                phase=self._phase(number),
                shape=seen.what.shape,
                operators=self._operators[number],
                reduction=seen.what.reduction,
            )
            for number, seen in enumerate(self._seen)
        )


class Mutator(Watcher):
    """`with Mutator(mutation, mesh, device_mesh):` around one step, on every rank, with the same mutation.

    The collective itself still runs, on copies, so that no rank waits in vain and an asynchronous caller gets its
    Work; then the wrong result is put in place of the right one. After the step `applied` says if the site was met.
    Raises MutationError inside the step when the operator does not apply.
    """

    def __init__(self, mutation: Mutation, mesh: Mesh, device_mesh: Any) -> None:
        super().__init__(mesh, device_mesh)
        self._mutation = mutation
        self._number = 0
        self._earlier: dict[Key, torch.Tensor] = {}
        self.applied = False

    def collective(self, call: Call, what: Collective, func: Any, args: Any, kwargs: Any) -> Any:
        number, self._number = self._number, self._number + 1
        if number != self._mutation.site:
            if number < self._mutation.site:
                self._earlier.update({key(x): x.detach().clone() for x in call.operands})
            return func(*args, **kwargs)
        self._check(call, what)
        results = [self._mutant(call, what, x) for x in call.operands]
        self.applied = True
        with _disable_current_modes():  # a recorder around this sees the mutant, not the collective that it replaces
            copies = tree_map_only(torch.Tensor, torch.clone, (args, kwargs))
            returned = func(*copies[0], **copies[1])
            finish(returned)
        if call.outputs is None:
            return shaped(results, returned)
        write(call, results)
        return _with_outputs(returned, args)

    def _check(self, call: Call, what: Collective) -> None:
        names = applicable(what, self.mesh) if call.even and call.kind in _MUTABLE else ()
        if self._mutation.operator not in names:
            raise MutationError(
                f"Operator '{self._mutation.operator}' does not apply to collective {self._mutation.site}, "
                f"an {what.kind} over {', '.join(what.axes)}: {', '.join(names) or 'none'} would."
            )

    def _mutant(self, call: Call, what: Collective, x: torch.Tensor) -> torch.Tensor:
        operator, x = self._mutation.operator, x.detach()
        if operator == "stale_operand":
            return perform(call, self._earlier.get(key(x), x))
        if operator == "wrong_axis":
            return perform(replace(call, group=self.groups.over(other_axes(what.axes, self.mesh))), x)
        return MUTANTS[operator](call, x.flatten().clone())


def _with_outputs(returned: Any, args: Any) -> Any:
    """What the collective returns, with the caller's own tensors (its first argument) instead of the copies."""
    if isinstance(returned, tuple):
        return (args[0], *returned[1:])
    return returned if isinstance(returned, torch.ScriptObject) else args[0]
