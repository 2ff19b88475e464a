"""`conformance.check`: somebody's own reference and candidate, functions or trainers, judged in their own test."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.cases.case import Case, Dtype
from conformance.cases.functions import PREFIX, Functions, contract
from conformance.cases.importing import standard_first
from conformance.cases.resolve import Target
from conformance.contract.implementation import Declarations, Framework
from conformance.contract.mesh import Mesh, MeshError, too_large
from conformance.contract.roles import ROLES
from conformance.inline.asked import Average, Batches, asked, training
from conformance.records import formatting
from conformance.records.results import CaseResult

if TYPE_CHECKING:
    from conformance.workers.pool import Workers

DEPENDS = "It failed beside earlier checks and passes alone: it depends on what ran before it in the same process."


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What `check` returns: true if every check passed; printed, it says what diverged and why."""

    result: CaseResult

    @property
    def passed(self) -> bool:
        return self.result.verdict == "pass"

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        case = self.result.case
        lines = [f"{case.implementation} on {case.mesh} in {case.dtype}: {self.result.spoken}"]
        lines += [self.result.reason, self.result.stack]
        for result in self.result.checks:
            said = " ".join(filter(None, dict.fromkeys([result.detail, result.not_held])))
            lines.append(f"  {result.check}: {result.verdict}, {result.compared} compared. {said}".rstrip())
            for cause in result.diagnosis:
                said = formatting.cause(cause.cause, cause.axis, cause.confidence, cause.axis_confidence, ".2f")
                lines += [f"    {said}", f"        because {cause.basis}" if cause.basis else ""]
        return "\n".join(line for line in lines if line)


def check(
    *,
    reference: Callable[..., Any],
    candidate: Callable[..., Any],
    parameters: Any,
    batch: Batches,
    mesh: str,
    dtype: Dtype = "float64",
    framework: Framework | None = None,
    optimizer: Callable[..., Any] | None = None,
    steps: int | None = None,
    accumulation: int = 1,
    clip_norm: float | None = None,
    ema: Average = None,
    frozen: Sequence[str] = (),
    parameter_dtype: Dtype | None = None,
    declare: Declarations | Callable[..., Declarations] | None = None,
    timeout: float | None = None,
    roles: Mapping[str, str] | None = None,
    replicated_axes: Sequence[str] = (),
    still: Sequence[str] = (),
) -> Judgement:
    """Compare a sharded program with a single-device one.

    reference  (parameters, batch) -> loss, (loss, outputs), or outputs alone as a mapping, of which nothing is then
               differentiated; plain single-device code. Or a class like the candidate's, which is given None for a mesh
    candidate  (parameters, batch, mesh) -> observations: `loss`, `gradients/<name>` for every parameter, and
               `outputs/<name>` for every output of the reference; mesh is a jax.sharding.Mesh or a torch DeviceMesh.
               Or a class made with (parameters, mesh) whose `step(batch)` takes one step and returns observations; what
               it has learnt is read from its attributes `model`, `optimizer` and `ema`, or its method `collect`
    parameters name -> array of real numbers, a tree of such, a module of torch or Flax NNX, or a function that makes
               one; both sides are given it in the form in which it comes, with the same numbers in it
    batch      name -> array of real or whole numbers; or a list of such, one for each step
    mesh       for example 'data=2,tensor=4', axes by any names; it is emulated, no accelerator is needed
    optimizer  by which the reference is trained: in torch (parameters) -> torch.optim.Optimizer, in JAX
               () -> optax.GradientTransformation; `functools.partial(optax.adamw, 1e-3)` is one too
    steps      of which everything is compared; None: one for each batch, 3 of a trainer that is given one batch
    accumulation   slices that the reference takes one after the other; 1: the whole batch, which is the same for a mean
    clip_norm  the norm of all gradients to which the reference clips; `metrics/grad_norm` is then observed
    ema        decay of a moving average of the parameters, which begins as they do; in torch also a function
               (module) -> torch.optim.swa_utils.AveragedModel, which begins with its first update
    frozen     names or patterns of parameters that are not trained, beside those of which a module says it itself
    parameter_dtype   in which a trainer keeps its parameters; None: float64 in float64, else float32
    declare    what the candidate communicates, holds and donates, or a function (mesh, dtype) that says it
    timeout    seconds after which a worker that does not answer is a `hang`
    roles      axis -> its role (one of `ROLES`), where the usual meaning of its name does not say it
    replicated_axes   axes that divide nothing on purpose; that any other axis divides nothing is a finding
    still      what the reference cannot move, on purpose: `gradients/<name>` that is zero everywhere, `loss` that no
               batch moves; anywhere else that is a finding, since two dead programs agree perfectly

    Parameters and real inputs are rounded to the dtype first. Functions and classes stand at the top level of a module,
    since the workers import them. Raises ValueError, in one sentence, for what cannot be found again or sent, for a bad
    mesh, dtype or role, for inputs that are no numbers, and for options that do not go together.
    """
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout is {timeout:g} s: give more than 0.")
    functions = asked(
        reference=reference, candidate=candidate, parameters=parameters, batch=batch, mesh=mesh, dtype=dtype,
        framework=framework, training=training(optimizer, clip_norm, accumulation, ema), steps=steps, frozen=frozen,
        parameter_dtype=parameter_dtype, declare=declare, roles=roles, replicated_axes=replicated_axes, still=still,
    )  # fmt: skip
    with standard_first():
        posed = Posed(functions=functions, name=candidate.__name__, mesh=_mesh(mesh, functions), dtype=dtype)
        return Judgement(result=_judged(posed, timeout))


@dataclass(frozen=True, kw_only=True)
class Posed:
    """What is judged: two sides, the candidate's name, a mesh and a dtype."""

    functions: Functions
    name: str
    mesh: Mesh
    dtype: Dtype

    def within(self, folder: Path) -> tuple[Case, Target]:
        """As a case and what it runs; the folder must stay until it is judged."""
        functions, path = self.functions, folder / "functions.pickle"
        path.write_bytes(pickle.dumps(functions))
        case = Case(contract=f"{PREFIX}{path}", implementation=self.name, mesh=self.mesh, dtype=self.dtype)
        side = f"{functions.framework}_trainer:Trainer" if functions.trains else f"{functions.framework}:Candidate"
        claimed = contract(case.contract)
        return case, Target(contract=claimed, framework=functions.framework, path=f"conformance.inline.{side}")


def _judged(posed: Posed, timeout: float | None) -> CaseResult:
    """By the workers of earlier checks; what goes wrong there is run once more by new ones, whose word counts."""
    from conformance.workers.kept import close, kept

    with kept(posed.mesh.devices) as before:
        used, before.used = before.used, True
        result = _run(posed, before.workers, timeout)
    if not used or result.verdict not in ("fail", "error", "crash"):
        return result
    close()
    with kept(posed.mesh.devices) as new:
        new.used = True
        again = _run(posed, new.workers, timeout)
    return replace(again, reason=DEPENDS) if again.verdict == "pass" else again


def _run(posed: Posed, workers: Workers, timeout: float | None) -> CaseResult:
    from conformance.runner.run import CaseRunner

    with tempfile.TemporaryDirectory(prefix="shardproof-") as folder:
        return CaseRunner(workers=workers, timeout_seconds=timeout).judge_case(*posed.within(Path(folder)))


def _mesh(text: str, functions: Functions) -> Mesh:
    mesh = Mesh.parse(text)
    if sentence := too_large(mesh, functions.framework):
        raise MeshError(sentence)
    for axis, role in functions.roles.items():
        if axis not in mesh.axes:
            raise ValueError(f"roles names the axis '{axis}', which the mesh {mesh} does not have.")
        if role not in ROLES:
            raise ValueError(f"Unknown role '{role}' of axis '{axis}': the roles are {', '.join(ROLES)}.")
    return mesh
