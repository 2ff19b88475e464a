"""Asked: the arguments of `conformance.check`, read and refused in one sentence where they do not go together."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from conformance.cases.case import DTYPES, Dtype
from conformance.cases.functions import Call, Functions, Training
from conformance.contract.contract import Arrays
from conformance.contract.implementation import FRAMEWORKS, Declarations, Framework
from conformance.contract.mesh import Mesh
from conformance.inline.given import Given, given
from conformance.inline.inputs import batch_in, buffers_in, parameters_in
from conformance.inline.located import call, where

STEPS = 3  # of a trainer that is given one batch
Average = float | Callable[..., Any] | None
Batches = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def asked(
    *,
    reference: Callable[..., Any],
    candidate: Callable[..., Any],
    parameters: Any,
    batch: Batches,
    mesh: str,
    dtype: Dtype,
    framework: Framework | None,
    training: Training,
    **options: Any,
) -> Functions:
    """All that workers are told. Raises ValueError in one sentence."""
    _require_known(framework, dtype)
    taken = given(parameters, options["frozen"])
    is_class = inspect.isclass(candidate)
    trains = is_class or training.optimizer is not None or inspect.isclass(reference)
    batches = _batches(dtype, batch, options["steps"], trains)
    _refuse(training, reference, is_class, trains, options["parameter_dtype"], batches)
    framework = _framework(candidate, taken) if framework is None else framework
    if isinstance(training.ema, Call) and framework == "jax":
        raise ValueError("ema is a function, which makes an average of torch's: in JAX give the decay, as a number.")
    return Functions(
        framework=framework, reference=where(reference), candidate=where(candidate),
        parameters=parameters_in(dtype, taken.parameters), buffers=buffers_in(dtype, taken.buffers), batches=batches,
        blueprint=taken.blueprint, trains=trains, reference_is_class=inspect.isclass(reference), training=training,
        frozen=taken.frozen, declared=_declared(options["declare"]), parameter_dtype=options["parameter_dtype"],
        roles=dict(options["roles"] or {}),
        replicated_axes=_words("replicated_axes", options["replicated_axes"], Mesh.parse(mesh).axes),
        still=_words("still", options["still"], _movable(taken)),
    )  # fmt: skip


def _require_known(framework: str | None, dtype: str) -> None:
    if framework not in (None, *FRAMEWORKS):
        raise ValueError(f"Unknown framework '{framework}': the frameworks are {', '.join(FRAMEWORKS)}.")
    if dtype not in DTYPES:
        raise ValueError(f"Unknown dtype '{dtype}': the dtypes are {', '.join(DTYPES)}.")


def _movable(taken: Given) -> tuple[str, ...]:
    """What `still` may name: all that a reference usually moves."""
    trained = [name for name in taken.parameters if name not in taken.frozen]
    return ("loss", "updates", *(f"gradients/{name}" for name in trained))


def training(
    optimizer: Callable[..., Any] | None, clip_norm: float | None, accumulation: int, ema: Average
) -> Training:
    """How the reference is trained. Raises ValueError in one sentence."""
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm is {clip_norm:g}: gradients are clipped to a norm above 0.")
    if accumulation < 1:
        raise ValueError(f"accumulation is {accumulation}: a batch has 1 slice or more.")
    if isinstance(ema, (int, float)) and not 0 <= ema < 1:
        raise ValueError(f"ema is {ema:g}: the decay of a moving average is 0 or more, and less than 1.")
    if optimizer is None and (clip_norm, ema) != (None, None):
        raise ValueError("clip_norm and ema are parts of a training: give the optimizer too.")
    made = None if optimizer is None else call(optimizer)
    average = call(ema) if callable(ema) else None if ema is None else float(ema)
    return Training(optimizer=made, clip_norm=clip_norm, slices=accumulation, ema=average)


def _refuse(
    training: Training,
    reference: Callable[..., Any],
    is_class: bool,
    trains: bool,
    parameter_dtype: str | None,
    batches: Sequence[Arrays],
) -> None:
    if trains and not is_class:
        raise ValueError(
            "What is trained keeps its state from step to step: give the candidate as a class, made with "
            "(parameters, mesh), whose `step(batch)` is one step."
        )
    if inspect.isclass(reference) and training != Training():
        raise ValueError(
            "A reference that is a class trains itself: leave optimizer, clip_norm, accumulation and ema out."
        )
    if training.optimizer is not None and len(batches) < 2:
        raise ValueError("An optimizer is judged by two steps or more: what it keeps shows in the second only.")
    if parameter_dtype is not None and (not trains or parameter_dtype not in DTYPES):
        raise ValueError(
            f"parameter_dtype is one of {', '.join(DTYPES)}, in which a trainer keeps its parameters between steps."
        )
    _require_equal_slices(batches[0], training.slices)


def _require_equal_slices(batch: Arrays, slices: int) -> None:
    rows = {key: len(value) for key, value in batch.items() if value.ndim}
    for key, number in rows.items():
        if number % slices:
            raise ValueError(
                f"The {number} rows of '{key}' do not divide into {slices} slices of accumulation: give the "
                "reference the whole batch, without `accumulation`, or slice it as your trainer does."
            )


def _batches(dtype: str, batch: Batches, steps: int | None, trains: bool) -> tuple[Arrays, ...]:
    """One for each step."""
    if steps is not None and steps < 1:
        raise ValueError(f"steps is {steps}: there is 1 step or more.")
    several = [batch] if isinstance(batch, Mapping) else list(batch)
    if not several or not all(isinstance(step_batch, Mapping) for step_batch in several):
        raise ValueError("batch is a mapping from name to array, or a list of such, one for each step.")
    made = [batch_in(dtype, step_batch) for step_batch in several]
    shapes = [{key: value.shape for key, value in arrays.items()} for arrays in made]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("The batches differ in names or shapes: every step has the same.")
    usual = len(made) if len(made) > 1 or not trains else STEPS
    return tuple(made[n % len(made)] for n in range(steps or usual))


def _declared(declare: Any) -> Declarations | Call | None:
    if declare is None or isinstance(declare, Declarations):
        return declare
    if not callable(declare):
        raise ValueError("declare is conformance.Declarations, or a function (mesh, dtype) that returns them.")
    return call(declare)


def _words(argument: str, given: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    for word in (given,) if isinstance(given, str) else given:
        if word not in known:
            raise ValueError(f"{argument} names '{word}', which is none of {', '.join(known)}.")
    return (given,) if isinstance(given, str) else tuple(given)


def _framework(candidate: Callable[..., Any], taken: Given) -> Framework:
    """That of the module that was handed over, else the one of which the candidate's module has something."""
    if taken.framework is not None:
        return taken.framework
    values = vars(sys.modules[candidate.__module__]).values()
    names = [value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None) for value in values]
    tops = {str(name).partition(".")[0].replace("jaxlib", "jax") for name in names}
    frameworks = [framework for framework in FRAMEWORKS if framework in tops]
    if len(frameworks) != 1:
        raise ValueError("Say framework='jax' or framework='torch': the candidate's module imports neither or both.")
    return frameworks[0]
