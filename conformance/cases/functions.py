"""What was handed to `conformance.check` as a contract, which workers find again in a file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from conformance.contract.contract import Arrays, Contract, Precision, Recipe
from conformance.contract.implementation import Framework

PREFIX = "inline:"


@dataclass(frozen=True, kw_only=True)
class Call:
    """A function of somebody's, where workers find it (`conformance.inline.located`), and what a partial has fixed."""

    path: str
    args: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """How a worker puts parameters together again, in the form in which they were handed over.

    kind      tree: nested containers with the name of a parameter at each leaf; module: of torch or of Flax NNX
    pickled   the tree, or the module
    modules   name in `pickled` of a Python module of theirs -> where workers find it
    builder   a function of theirs that makes the module, in place of `pickled`
    """

    kind: Literal["tree", "module"]
    pickled: bytes = b""
    modules: Mapping[str, str] = field(default_factory=dict)
    builder: str = ""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a reference that is a function is trained.

    optimizer  in torch (module or tree) -> torch.optim.Optimizer, in JAX () -> optax.GradientTransformation
    clip_norm  of all gradients together; None: they are not clipped
    slices     of the batch along dim 0, one after the other: the loss is the mean of theirs
    ema        decay of a moving average of the parameters, which begins as they do; None: there is none. In torch also
               (module) -> a torch.optim.swa_utils.AveragedModel, which begins with its first update
    """

    optimizer: Call | None = None
    clip_norm: float | None = None
    slices: int = 1
    ema: float | Call | None = None


@dataclass(frozen=True, kw_only=True)
class Functions:
    """Where the two sides are (`conformance.inline.located`), what they are given, and what its axes are for.

    trains     one of the two sides is a class that keeps its state from step to step, or there is an optimizer
    frozen     parameters that are not trained
    buffers    what a module has besides parameters, by name, as it begins
    declared   Declarations, or where the function is that makes them for a mesh and a dtype
    parameter_dtype   in which parameters lie between steps; None: as the recipe usually has it
    """

    framework: Framework
    reference: str
    candidate: str
    parameters: Arrays
    batches: tuple[Arrays, ...]
    roles: Mapping[str, str]
    blueprint: Blueprint | None = None
    trains: bool = False
    reference_is_class: bool = False
    training: Training = field(default_factory=Training)
    frozen: tuple[str, ...] = ()
    buffers: Arrays = field(default_factory=dict)
    declared: Any = None
    parameter_dtype: str | None = None
    replicated_axes: tuple[str, ...] = ()
    still: tuple[str, ...] = ()


def contract(name: str) -> Contract:
    """The contract behind `inline:<file>`."""
    functions: Functions = pickle.loads(Path(name.removeprefix(PREFIX)).read_bytes())
    side = "TrainerReference" if functions.reference_is_class else "Reference"
    module = f"{functions.framework}_trainer" if functions.reference_is_class else functions.framework
    return Contract(
        name=name,
        summary="a sharded program against its single-device reference",
        model=functions,
        shapes={key: value.shape for key, value in functions.parameters.items()},
        parameters=lambda seed: functions.parameters,
        batches=lambda seed, steps: [functions.batches[step % len(functions.batches)] for step in range(steps)],
        references={functions.framework: f"conformance.inline.{module}:{side}"},
        recipe=_recipe(functions),
        roles=functions.roles,
        held=False,
        varied=False,
        replicated_axes=functions.replicated_axes,
        still=functions.still,
    )


def _recipe(functions: Functions) -> Recipe:
    training = functions.training
    return Recipe(
        optimizer="theirs" if functions.trains else "",
        clip_norm=training.clip_norm,
        accumulation=training.slices,
        steps=len(functions.batches),
        precision=Precision(parameters=functions.parameter_dtype),
    )
