"""A scale plan: a model of production size, the program that would train it, and what proves that program right."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.contract.contract import Contract


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
    """

    name: str
    summary: str
    contract: Contract
    mesh: str
    dtype: str
    program: str
    budget: str
    proof: str
