"""`conformance.check`: somebody's own reference and candidate functions, judged in their own test."""

from __future__ import annotations

import inspect
import pickle
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.cases.case import DTYPES, Case, Dtype
from conformance.cases.functions import PREFIX, Functions, contract
from conformance.cases.importing import standard_first
from conformance.cases.resolve import Target
from conformance.contract.implementation import FRAMEWORKS, Framework
from conformance.contract.mesh import Mesh, MeshError, too_large
from conformance.contract.roles import ROLES
from conformance.inline.inputs import batch_in, parameters_in
from conformance.inline.located import where
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
    parameters: Mapping[str, Any],
    batch: Mapping[str, Any],
    mesh: str,
    dtype: Dtype = "float64",
    framework: Framework | None = None,
    roles: Mapping[str, str] | None = None,
    replicated_axes: Sequence[str] = (),
    still: Sequence[str] = (),
) -> Judgement:
    """Compare a sharded function with a single-device one.

    reference  (parameters, batch) -> loss, or (loss, outputs); plain single-device code, differentiated here
    candidate  (parameters, batch, mesh) -> observations: `loss`, `gradients/<name>` for every parameter, and
               `outputs/<name>` for every output of the reference; mesh is a jax.sharding.Mesh or a torch DeviceMesh
    parameters, batch   name -> array of real numbers (batch: or whole numbers); both are rounded to the dtype first
    mesh       for example 'data=2,tensor=4', axes by any names; it is emulated, no accelerator is needed
    roles      axis -> its role (one of `ROLES`), where the usual meaning of its name does not say it
    replicated_axes   axes that divide nothing on purpose; that any other axis divides nothing is a finding
    still      what the reference cannot move, on purpose: `gradients/<name>` that is zero everywhere, `loss` that no
               batch moves; anywhere else that is a finding, since two dead programs agree perfectly

    Both functions stand at the top level of a module, since the workers import them. Raises ValueError with one
    sentence for functions that cannot be found again, a bad mesh, dtype or role, and for inputs that are no numbers.
    """
    if framework not in (None, *FRAMEWORKS):
        raise ValueError(f"Unknown framework '{framework}': the frameworks are {', '.join(FRAMEWORKS)}.")
    if dtype not in DTYPES:
        raise ValueError(f"Unknown dtype '{dtype}': the dtypes are {', '.join(DTYPES)}.")
    functions = Functions(
        framework=_framework(candidate) if framework is None else framework,
        reference=where(reference),
        candidate=where(candidate),
        parameters=parameters_in(dtype, parameters),
        batch=batch_in(dtype, batch),
        roles=dict(roles or {}),
        replicated_axes=_words("replicated_axes", replicated_axes, Mesh.parse(mesh).axes),
        still=_words("still", still, ("loss", *(f"gradients/{name}" for name in parameters))),
    )
    with standard_first():
        return Judgement(result=_judged(functions, candidate.__name__, _mesh(mesh, functions), dtype))


def _judged(functions: Functions, name: str, mesh: Mesh, dtype: Dtype) -> CaseResult:
    """By the workers of earlier checks; what goes wrong there is run once more by new ones, whose word counts."""
    from conformance.workers.kept import close, kept

    with kept(mesh.devices) as before:
        used, before.used = before.used, True
        result = _run(functions, name, mesh, dtype, before.workers)
    if not used or result.verdict not in ("fail", "error", "crash"):
        return result
    close()
    with kept(mesh.devices) as new:
        new.used = True
        again = _run(functions, name, mesh, dtype, new.workers)
    return replace(again, reason=DEPENDS) if again.verdict == "pass" else again


def _run(functions: Functions, name: str, mesh: Mesh, dtype: Dtype, workers: Workers) -> CaseResult:
    from conformance.runner.run import CaseRunner

    with tempfile.TemporaryDirectory(prefix="shardproof-") as folder:
        return CaseRunner(workers=workers).judge_case(*posed(functions, name, mesh, dtype, Path(folder)))


def posed(functions: Functions, name: str, mesh: Mesh, dtype: Dtype, folder: Path) -> tuple[Case, Target]:
    """The functions as a case and what it runs; the folder must stay until it is judged."""
    path = folder / "functions.pickle"
    path.write_bytes(pickle.dumps(functions))
    case = Case(contract=f"{PREFIX}{path}", implementation=name, mesh=mesh, dtype=dtype)
    target = Target(
        contract=contract(case.contract),
        framework=functions.framework,
        path=f"conformance.inline.{functions.framework}:Candidate",
    )
    return case, target


def _words(argument: str, given: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    for word in (given,) if isinstance(given, str) else given:
        if word not in known:
            raise ValueError(f"{argument} names '{word}', which is none of {', '.join(known)}.")
    return (given,) if isinstance(given, str) else tuple(given)


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


def _framework(candidate: Callable[..., Any]) -> Framework:
    """The framework of which the candidate's module has something."""
    values = vars(sys.modules[candidate.__module__]).values()
    names = [value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None) for value in values]
    tops = {str(name).partition(".")[0].replace("jaxlib", "jax") for name in names}
    frameworks = [framework for framework in FRAMEWORKS if framework in tops]
    if len(frameworks) != 1:
        raise ValueError("Say framework='jax' or framework='torch': the candidate's module imports neither or both.")
    return frameworks[0]
