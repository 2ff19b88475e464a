"""References: the single-device reference in float64, and how far rounding moves it in the dtype of the case."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from conformance.cases.raised import said
from conformance.contract.contract import Arrays, Contract
from conformance.evidence.arithmetic import Operation
from conformance.evidence.evidence import ReferenceResult
from conformance.evidence.tolerance import EPSILON, bounded_as
from conformance.trace.stochastic import Stochastic
from conformance.workers import lookup
from conformance.workers.jobs import ReferenceJob, ReferencePartsJob, ReferenceShapesJob, ReferenceValuesJob
from conformance.workers.platform import Clock, Work
from conformance.workers.reference_members import (
    Steps,
    begun_at,
    coarsest,
    farthest,
    formulations,
    larger,
    perturbed,
    reductions,
    refuse_astray,
)
from conformance.workers.sensitivity import idle, unmoved

_LOG = logging.getLogger("shardproof.workers")

MEMBERS = 8
TRAINERS_KEPT = 6
MOST_ROWS = 128  # that are taken one by one
MOST_ELEMENTS = 2**18  # in parameters and batch, for members to be evaluated all at once: they take so much more memory
Given = tuple[Arrays, list[Arrays]]  # parameters, and a batch per step
Together = Callable[[Sequence[Any], Sequence[Arrays]], Sequence[tuple[Any, Mapping[str, Any]]]]  # members, one step


@dataclass(kw_only=True)
class Kept:
    """A reference that is kept: as it is, and in stochastic arithmetic, (states, batches, arithmetic) -> results.

    Its `lower` is what it rounds to fewer bits than float64. `unevaluated` is as in ReferenceResult.
    """

    trainer: Any
    stochastic: Any
    unevaluated: str = ""


class References:
    """The reference programs of one framework, kept compiled.

    to_numpy    a value of the framework as a float64 array
    work        (step, state, batch) -> floating-point operations of its matrix products, and of all its arithmetic
    stochastic  step -> the same for several members at once, in stochastic arithmetic
    """

    def __init__(
        self,
        framework: str,
        to_numpy: Callable[[Any], np.ndarray],
        work: Callable[[Any, Any, Arrays], Work],
        stochastic: Callable[[Any], Any],
    ) -> None:
        self.framework, self.to_numpy, self.work, self.stochastic = framework, to_numpy, work, stochastic
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()

    def reference(self, job: ReferenceJob) -> ReferenceResult:
        """The oracle and the noise around it."""
        clock, contract = Clock(), lookup.contract(job.contract)
        parameters, batches = contract.parameters(job.seed), contract.batches(job.seed, contract.recipe.steps)
        with clock("reference"):
            oracle = self.run(contract, "float64", parameters, batches)
            decisions = tuple(_decisions(contract, step) if job.dtype != "float64" else {} for step in oracle)
            given = [batch | replayed for batch, replayed in zip(batches, decisions, strict=True)]
            kept = self.kept(contract, "float64")
            noise, lower = self._yardstick(contract, job.dtype, parameters, given, oracle)
            seen = partial(self.seen, kept.trainer, parameters), batches[0], oracle[0]
            still, unused = unmoved(*seen), idle(*seen)
            flops, operations = self.work(kept.trainer.step, kept.trainer.place(parameters), batches[0])
        return ReferenceResult(
            oracle=oracle,
            noise=noise,
            initial=parameters,
            decisions=decisions,
            flops=flops,
            operations=operations,
            unmoved=still,
            idle=unused,
            lower=lower,
            exact=kept.stochastic.exact if lower else frozenset(),
            unevaluated=kept.unevaluated,
            seconds=dict(clock.seconds),
        )

    def _yardstick(
        self, contract: Contract, dtype: str, parameters: Arrays, batches: list[Arrays], oracle: Steps
    ) -> tuple[Steps, tuple[Operation, ...]]:
        """(the noise around the oracle, what the oracle rounds to fewer bits where the dtype is float64)."""
        noise = self.noise(contract, dtype, parameters, batches, oracle)
        if dtype == "float32":
            noise = larger(noise, self.of_any_order(contract, parameters, batches, oracle))
        stochastic = self.kept(contract, "float64").stochastic
        lower = stochastic.lower if dtype == "float64" else ()
        if not lower:
            return noise, ()
        # good to that rounding only: what it does to the results is the yardstick
        first, *later = self.noise(contract, "float64", parameters, batches, oracle, bounded_as(lower[0].dtype))
        exact = {name: value for name, value in noise[0].items() if name in stochastic.exact}
        return (first | exact, *later), lower

    def noise(
        self,
        contract: Contract,
        dtype: str,
        parameters: Arrays,
        batches: list[Arrays],
        oracle: Steps,
        moved_as: str | None = None,
    ) -> Steps:
        """How far runs in the dtype, on inputs moved by about one rounding, stray from the oracle at most.

        In float64 they are evaluated in stochastic arithmetic: the oracle is such a run itself, and has an error too.
        `moved_as` is the dtype of the rounding where that is not the one in which a step begins.
        """
        most = tuple({name: np.zeros_like(value) for name, value in step.items()} for step in oracle)
        first = 0 if dtype != "float64" else 1
        rounding = moved_as or coarsest(contract, dtype)
        given = [perturbed(parameters, batches, rounding, n) for n in range(first, MEMBERS + 1)]
        near = oracle if moved_as is None else None  # a wider rounding may lead anywhere
        for formulation in (*formulations(contract), *reductions(contract, dtype)):
            for (moved, _), run in zip(given, self._members(formulation, dtype, given, near), strict=True):
                most = farthest(most, begun_at(parameters, moved, run), oracle)
        return most

    def of_any_order(self, contract: Contract, parameters: Arrays, batches: list[Arrays], oracle: Steps) -> Steps:
        """What float32 does in whatever order it adds up: to first order, that of float64 times the ratio of roundings.

        Runs in float32 itself add up as a library does, in pairs. One term after the other is as right, and far less
        accurate. Narrower dtypes are accumulated in float32 at the least, which is nothing beside their own rounding.
        """
        ratio = EPSILON["float32"] / EPSILON["float64"]
        exact = self.noise(contract, "float64", parameters, batches, oracle)
        return tuple({name: ratio * value for name, value in step.items()} for step in exact)

    def _members(self, contract: Contract, dtype: str, given: list[Given], near: Steps | None) -> list[Steps]:
        """The runs of all members; `near` is where those of a traced program must lead, but for rounding."""
        if dtype == "float64":
            try:
                runs = self._stochastic(contract, given)
                if near is not None and getattr(self.kept(contract, dtype).trainer, "keeps", False):
                    refuse_astray(runs, near)
                return runs
            except Exception as failure:  # one that cannot be traced, say
                self.kept(contract, "float64").unevaluated = said(failure)
        return [self.run(contract, dtype, *inputs) for inputs in given]

    def _stochastic(self, contract: Contract, given: list[Given]) -> list[Steps]:
        kept, arithmetic = self.kept(contract, "float64"), Stochastic(MEMBERS)
        parameters, batches = given[0]
        elements = sum(value.size for arrays in (parameters, batches[0]) for value in arrays.values())
        width = len(given) if elements <= MOST_ELEMENTS else 1

        def together(states: Sequence[Any], batches: Sequence[Arrays]) -> Any:
            return kept.stochastic(states, batches, arithmetic)

        groups = [given[n : n + width] for n in range(0, len(given), width)]
        return [run for group in groups for run in self._runs(kept.trainer, together, group)]

    def first_step(self, job: ReferenceValuesJob) -> tuple[Any, Arrays, Arrays]:
        """The reference in float64, its parameters, and the first batch."""
        contract = lookup.contract(job.contract)
        trainer, batches = self.trainer(contract, "float64"), contract.batches(job.seed, contract.recipe.steps)
        return trainer, contract.parameters(job.seed), batches[0]

    def shapes(self, job: ReferenceShapesJob) -> dict[str, tuple[int, ...]]:
        """Of what is observed in the first step, and of what is collected after it, as `run` names them."""
        contract = lookup.contract(job.contract)
        [step] = self.run(contract, "float64", contract.parameters(0), contract.batches(0, 1))
        return {name: value.shape for name, value in step.items()}

    def of_parts(self, job: ReferencePartsJob) -> list[Arrays]:
        """Of each part, what one device says that has no other rows; nothing where rows do not divide."""
        contract = lookup.contract(job.contract)
        trainer, batch = self.trainer(contract, "float64"), contract.batches(job.seed, contract.recipe.steps)[0]
        rows = max((len(value) for value in batch.values() if value.ndim), default=0)
        parts = job.parts or rows
        if not rows or rows % parts or rows > MOST_ROWS:
            return []
        said = []
        for part in range(parts):
            held = slice(part * rows // parts, (part + 1) * rows // parts)
            cut = {key: x[held] if x.ndim and len(x) == rows else x for key, x in batch.items()}
            seen = self.seen(trainer, contract.parameters(job.seed), cut)
            said.append({name: seen[name] for name in job.tensors if name in seen})
        return said

    def run(self, contract: Contract, dtype: str, parameters: Arrays, batches: list[Arrays]) -> Steps:
        """All steps of the recipe on one device: observations, then changes of parameters and optimizer state."""
        trainer = self.trainer(contract, dtype)
        [run] = self._runs(trainer, lambda states, batches: [trainer.step(*states, *batches)], [(parameters, batches)])
        return run

    def _runs(self, trainer: Any, together: Together, given: list[Given]) -> list[Steps]:
        """The same for several members, step by step."""
        states = [trainer.place(parameters) for parameters, _ in given]
        starts = [self.numbers(trainer.collect(state)) for state in states]
        runs: list[list[Arrays]] = [[] for _ in given]
        for batches in zip(*(batches for _, batches in given), strict=True):
            results = together(states, batches)
            states = [state for state, _ in results]
            for run, start, (state, seen) in zip(runs, starts, results, strict=True):
                run.append(self.numbers(seen) | _changes(self.numbers(trainer.collect(state)), start))
        return [tuple(run) for run in runs]

    def seen(self, trainer: Any, parameters: Arrays, batch: Arrays) -> Arrays:
        """What one step from these parameters observes."""
        return self.numbers(trainer.step(trainer.place(parameters), batch)[1])

    def trainer(self, contract: Contract, dtype: str) -> Any:
        return self.kept(contract, dtype).trainer

    def kept(self, contract: Contract, dtype: str) -> Kept:
        key = (contract.name, dtype)
        if key not in self._kept:
            trainer = lookup.load(contract.references[self.framework])(contract, dtype)
            self._kept[key] = Kept(trainer=trainer, stochastic=self.stochastic(trainer.step))
        self._kept.move_to_end(key)
        while len(self._kept) > TRAINERS_KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]

    def numbers(self, values: Mapping[str, Any]) -> Arrays:
        return {name: self.to_numpy(value) for name, value in values.items()}


def _decisions(contract: Contract, observed: Arrays) -> Arrays:
    """What the oracle decided in a step, and all others are told, by batch key; what can be chosen is numbered."""
    return {key: observed[name].astype(np.int32) for name, key in contract.replayed.items()}


def _changes(state: Arrays, start: Arrays) -> Arrays:
    """`updates/<name>` in place of `parameters/<name>`."""
    return {
        name.replace("parameters/", "updates/", 1): value - start[name] if name.startswith("parameters/") else value
        for name, value in state.items()
    }
