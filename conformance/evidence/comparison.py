"""A case run: everything a check may look at when it judges one case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import ml_dtypes  # noqa: F401 - teaches numpy the name bfloat16
import numpy as np

from conformance.cases.case import Case
from conformance.contract.contract import Contract
from conformance.contract.mesh import Mesh
from conformance.evidence.arithmetic import BITS
from conformance.evidence.blocks import merged, place
from conformance.evidence.evidence import Block, Evidence, Observations, Observed, ReferenceResult
from conformance.evidence.gather import deviation, gathered, selector
from conformance.evidence.tolerance import BOUNDS, EPSILON, Excess, bounded_as, excess, of_square

SQUARES = ("optimizer/second_moment/",)  # means of squared gradients


@dataclass(frozen=True, kw_only=True)
class TensorComparison:
    """One tensor of one step against the oracle; step -1 is the start, before the first step."""

    step: int
    tensor: str
    observed: Observed
    expected: np.ndarray
    magnitude: np.ndarray  # size of what is stored: of the value itself, for an update of the parameter
    noise: np.ndarray
    epsilon: float
    excess: Excess

    @property
    def moment(self) -> str:
        return "start" if self.step < 0 else f"step {self.step + 1}"

    @property
    def label(self) -> str:
        rows = "" if self.excess.blocks == 1 else f" rows {self.excess.rows[0]}-{self.excess.rows[1] - 1}"
        return f"{self.moment}: {self.tensor}{rows}"


@dataclass(frozen=True, kw_only=True)
class CaseRun:
    """A case, its contract, the evidence of the candidate and the result of the reference.

    others   contract -> it and its reference result, of the other model that the relation `second model` builds
    rows     (tensor) -> for each row of the first batch, what the reference says of the tensor of that row alone;
             nothing where that is not known
    """

    case: Case
    contract: Contract
    evidence: Evidence
    reference: ReferenceResult
    others: Mapping[str, tuple[Contract, ReferenceResult]] = field(default_factory=dict)
    rows: Callable[[str], Sequence[np.ndarray]] = field(default=lambda tensor: ())

    @property
    def precision(self) -> str:
        """The dtype whose rounding the reference is good to: the case's, or a narrower one of a float64 reference."""
        return min((self.case.dtype, *(operation.dtype for operation in self.reference.lower)), key=BITS.__getitem__)

    @property
    def bound(self) -> float:
        return BOUNDS[bounded_as(self.precision)]

    def epsilon(self, tensor: str) -> float:
        """The largest unit roundoff on the tensor's way, as the contract's precision policy allows it."""
        kind, _, name = tensor.partition("/")
        if kind == "optimizer":
            return EPSILON["float64" if self.precision == "float64" else "float32"]
        ways = {"updates": ("parameters",), "ema": ("parameters",), "gradients": ("compute", "gradients", "reduction")}
        ways |= {"input_gradients": ("compute", "gradients")}
        roles = ways["gradients"] if name == "grad_norm" else ways.get(kind, ("compute",))
        precision = self.contract.recipe.precision
        return max(EPSILON[bounded_as(precision.dtype(role, self.precision))] for role in roles)

    @cached_property
    def steps(self) -> tuple[Observations, ...]:
        """Per step: the observations, with `updates/<parameter>` (change since the start) instead of parameters."""
        return tuple(self._with_updates(step) for step in self.evidence.steps)

    def _with_updates(self, step: Observations) -> Observations:
        updated: Observations = {}
        for name, observed in step.items():
            if name.startswith("parameters/") and name in self.evidence.initial:
                updated[_as_update(name)] = _change(observed, self.evidence.initial[name], self.case.mesh)
            else:
                updated[name] = observed
        return updated

    @cached_property
    def comparisons(self) -> tuple[TensorComparison, ...]:
        """Every tensor that candidate and oracle both have in the same shape, in data-flow order, step by step."""
        return tuple(self._compared())

    @cached_property
    def placed(self) -> tuple[TensorComparison, ...]:
        """The parameters as placed against the canonical ones, in the dtype in which they are kept; no tolerance."""
        kept = np.dtype(self.contract.recipe.precision.dtype("parameters", self.case.dtype))
        comparisons = []
        for name, canonical in self.reference.initial.items():
            observed, expected = self.evidence.initial.get(f"parameters/{name}"), canonical.astype(kept).astype(float)
            if observed is not None and tuple(observed.shape) == expected.shape:
                comparisons.append(
                    self._comparison(-1, f"parameters/{name}", observed, expected, np.zeros_like(expected))
                )
        return tuple(comparisons)

    def against_oracle(
        self, observations: Observations, mesh: Mesh, arranged: Callable[[str, np.ndarray], np.ndarray]
    ) -> tuple[TensorComparison, ...]:
        """A first step that was run another way, on any mesh, against the oracle's own.

        `arranged` (name, value) lays what the oracle says in the order of this run. Updates are counted from the
        canonical parameters, since this run has left no start of its own.
        """
        seen = {_as_update(name): observed for name, observed in self._since_canonical(observations).items()}
        oracle, noise = self.reference.oracle[0], self.reference.noise[0]
        return tuple(
            self._comparison(0, name, seen[name], arranged(name, expected), arranged(name, noise[name]), mesh)
            for name, expected in oracle.items()
            if name in seen and tuple(seen[name].shape) == expected.shape
        )

    def _since_canonical(self, observations: Observations) -> Observations:
        start = {f"parameters/{name}": value for name, value in self.reference.initial.items()}
        return {
            name: _moved(observed, start[name]) if name in start else observed
            for name, observed in observations.items()
        }

    def _compared(self) -> Iterator[TensorComparison]:
        for step, (observations, oracle, noise) in enumerate(
            zip(self.steps, self.reference.oracle, self.reference.noise, strict=False)
        ):
            for name, expected in oracle.items():
                observed = observations.get(name)
                if observed is not None and tuple(observed.shape) == expected.shape:
                    yield self._comparison(step, name, observed, expected, noise[name])

    def _comparison(
        self,
        step: int,
        tensor: str,
        observed: Observed,
        expected: np.ndarray,
        noise: np.ndarray,
        mesh: Mesh | None = None,
    ) -> TensorComparison:
        magnitude, error = self._magnitude(tensor, expected), deviation(observed, expected, mesh or self.case.mesh)
        epsilon = self.epsilon(tensor)
        if step == 0 and tensor in self.reference.exact:  # held in float64, by a bound that is another dtype's
            share = BOUNDS["float64"] / self.bound
            noise, epsilon = share * noise, share * EPSILON["float64"]
        if tensor.startswith(SQUARES):
            noise = of_square(expected, noise, self.bound)
        return TensorComparison(
            step=step,
            tensor=tensor,
            observed=observed,
            expected=expected,
            magnitude=magnitude,
            noise=noise,
            epsilon=epsilon,
            excess=excess(error, magnitude, noise, epsilon),
        )

    def _magnitude(self, name: str, expected: np.ndarray) -> np.ndarray:
        """An update is the difference of two stored parameters, and rounded as they are. Infinity is not rounded."""
        expected = np.where(np.isfinite(expected), expected, 0.0)
        start = self.reference.initial.get(name.removeprefix("updates/")) if name.startswith("updates/") else None
        value: np.ndarray = np.abs(expected) if start is None else np.abs(start) + np.abs(expected)
        return value

    def whole(self, observed: Observed) -> np.ndarray:
        return gathered(observed, self.case.mesh)


def _as_update(name: str) -> str:
    return name.replace("parameters/", "updates/", 1)


def _moved(after: Observed, start: np.ndarray) -> Observed:
    """The change of every block since the canonical values, in float64."""
    blocks = tuple(
        replace(block, value=block.value.astype(np.float64) - start[selector(block.index)]) for block in after.blocks
    )
    return Observed(shape=after.shape, dtype="float64", blocks=blocks)


def _change(after: Observed, before: Observed, mesh: Mesh) -> Observed:
    """Every rank's own change of its own blocks, in float64.

    A block that has moved, since a partitioner lays it otherwise than it came, is counted from what other ranks held
    there; where that is not known it becomes NaN, which never passes.
    """
    start = {(rank, place(block)): block.value for block in before.blocks for rank in block.ranks}
    whole: np.ndarray | None = None
    blocks = []
    for block in after.blocks:
        earlier = {rank: start.get((rank, place(block))) for rank in block.ranks}
        for rank, value in earlier.items():
            if value is None:
                whole = gathered(before, mesh) if whole is None else whole
                value = np.full_like(block.value, np.nan) if block.partial else whole[selector(block.index)]
            change = block.value.astype(np.float64) - value.astype(np.float64)
            blocks.append(Block(ranks=(rank,), index=block.index, value=change))
    return Observed(shape=after.shape, dtype="float64", blocks=merged(blocks))
