"""Members: runs of a reference that are as right as the oracle, and how far they stray from it at most.

A member begins at inputs that are moved by about one rounding, is computed by a formulation that is equal in exact
arithmetic, or reduces over fewer devices than are declared.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from conformance.contract.contract import Arrays, Contract
from conformance.contract.errors import ShardproofError
from conformance.evidence.gather import distance
from conformance.evidence.tolerance import EPSILON
from conformance.workers.altered import real_inputs

FEWER_DEVICES = (2, 4)  # over which a declared reduction is imagined besides
ASTRAY = 1e-6  # of the largest element of a tensor: farther than roundings of float64 lead
NOTHING = 1e-12  # of the largest of all tensors: what is no more than this may be nothing but rounding
Steps = tuple[Arrays, ...]


class UnlikeItselfError(ShardproofError, ValueError):
    """A reference that does otherwise when it is traced; the message is half a sentence."""


def formulations(contract: Contract) -> list[Contract]:
    """The contract, and the same with each of the models that are equal to its own in exact arithmetic."""
    others = (
        replace(contract, name=f"{contract.name}~{n}", model=model) for n, model in enumerate(contract.formulations)
    )
    return [contract, *others]


def reductions(contract: Contract, dtype: str) -> list[Contract]:
    """The same with fewer devices for a declared reduction: each sum is rounded otherwise, as orders of ranks do."""
    precision = contract.recipe.precision
    if precision.reduction is None or dtype == "float64":
        return []
    fewer = [devices for devices in FEWER_DEVICES if devices < precision.reduced_over]
    return [
        replace(
            contract,
            name=f"{contract.name}~over{devices}",
            recipe=replace(contract.recipe, precision=replace(precision, reduced_over=devices)),
        )
        for devices in fewer
    ]


def coarsest(contract: Contract, dtype: str) -> str:
    """The dtype to which the policy of a contract rounds what a step begins with."""
    roles = ("compute", "parameters")
    return max((contract.recipe.precision.dtype(role, dtype) for role in roles), key=EPSILON.__getitem__)


def perturbed(parameters: Arrays, batches: list[Arrays], dtype: str, member: int) -> tuple[Arrays, list[Arrays]]:
    """Inputs moved by about one rounding; member 0 is not moved."""
    if member == 0:
        return parameters, batches
    rng = np.random.default_rng(member)

    def moved(value: np.ndarray) -> np.ndarray:
        wide = dtype == "float64"
        by: np.ndarray = rng.integers(-1, 2, value.shape) if wide else rng.uniform(-0.5, 0.5, value.shape)
        return value * (1 + by * EPSILON[dtype])

    return (
        {name: moved(value) for name, value in parameters.items()},
        [batch | {key: moved(batch[key]) for key in real_inputs(batch)} for batch in batches],
    )


def begun_at(parameters: Arrays, moved: Arrays, run: Steps) -> Steps:
    """A run from moved parameters, as if its master copies had begun where they should: all they do is add updates.

    To move parameters by a rounding stands for roundings in a step. A master copy is there to be spared them.
    """
    prefix = "optimizer/master/"
    return tuple(
        {
            name: value - (moved[of] - parameters[of]) if (of := name.removeprefix(prefix)) != name else value
            for name, value in step.items()
        }
        for step in run
    )


def farthest(noise: Steps, run: Steps, oracle: Steps) -> Steps:
    """The noise so far, and where this run strays farther, what it strays."""
    return tuple(
        {name: np.fmax(far[name], distance(values[name], true[name])) for name in true}
        for far, values, true in zip(noise, run, oracle, strict=True)
    )


def refuse_astray(runs: list[Steps], oracle: Steps) -> None:
    """Raise UnlikeItselfError where a traced step stands for another than the one that runs.

    It does so where a class of somebody's keeps what no trace sees, a counter in a closure or an iterator.
    """
    for run in runs:
        for values, true in zip(run, oracle, strict=True):
            most = max(map(_largest, true.values()), default=0.0)
            for name, value in true.items():
                if _largest(values[name], value) > ASTRAY * _largest(value) + NOTHING * most:
                    raise UnlikeItselfError(f"traced, it has another '{name}' than when it runs")


def _largest(value: np.ndarray, less: np.ndarray | float = 0.0) -> float:
    """The largest element of a tensor, or of what it differs by, of those that are finite."""
    with np.errstate(invalid="ignore"):
        off = np.abs(np.asarray(value) - less)
    return float(np.max(off, initial=0.0, where=np.isfinite(off)))


def larger(noise: Steps, other: Steps) -> Steps:
    """The larger of two, number by number."""
    return tuple(
        {name: np.maximum(step[name], beside[name]) for name in step} for step, beside in zip(noise, other, strict=True)
    )
