"""A scale plan: a model of production size, the program that would train it, and what proves that program right."""

from __future__ import annotations

from dataclasses import dataclass, replace

from conformance.cases.usage import UsageError
from conformance.contract.contract import Contract


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program of a plan in one framework; as in ScalePlan."""

    program: str
    budget: str
    proof: str
    reduction: str = ""


@dataclass(frozen=True, kw_only=True)
class ScalePlan:
    """What `shardproof scale` compiles.

    name      as it is asked for
    summary   the model and how it is divided, one sentence
    contract  the model at its size; its parameters are never drawn
    mesh      where it is compiled unless another mesh is asked for
    dtype     of the case that the contract would be run in
    program   'module:Class' of an implementation that has `abstract` (`conformance.scale.program`)
    budget    'module:function': (contract, mesh, dtype) -> the allowances of one step
    proof     the standing case in which the same program, small, is compared with the reference
    reduction  dtype in which the program sums gradients over devices, where it is not that of the recipe
    torch     the same in torch, where the program has `imagined`; None: the plan is one for JAX alone
    """

    name: str
    summary: str
    contract: Contract
    mesh: str
    dtype: str
    program: str
    budget: str
    proof: str
    reduction: str = ""
    torch: Program | None = None

    @property
    def recipe_reduction(self) -> str:
        """The dtype in which the recipe sums gradients over devices."""
        return self.contract.recipe.precision.dtype("reduction", self.dtype)

    def of(self, framework: str) -> ScalePlan:
        """The plan with its program in this framework. Raises UsageError where it has none."""
        if framework == "jax":
            return self
        if self.torch is None:
            raise UsageError(f"The plan '{self.name}' names no program in {framework}.")
        own = self.torch
        return replace(self, program=own.program, budget=own.budget, proof=own.proof, reduction=own.reduction)
