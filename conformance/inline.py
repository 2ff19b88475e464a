"""`conformance.check`: somebody's own reference and candidate functions, judged in their own test."""

from __future__ import annotations

import inspect
import pickle
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.cases import DTYPES, Case
from conformance.contract import Arrays, Contract, Recipe
from conformance.inputs import batch_in, parameters_in
from conformance.mesh import Mesh, MeshError, too_large
from conformance.resolve import Target
from conformance.results import CaseResult
from conformance.roles import ROLES

PREFIX = "inline:"


@dataclass(frozen=True, kw_only=True)
class Functions:
    """Where the two functions are ('/path/file.py:function'), what they are given, and what its axes are for."""

    framework: str
    reference: str
    candidate: str
    parameters: Arrays
    batch: Arrays
    roles: Mapping[str, str]


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
        for one in self.result.checks:
            lines.append(f"  {one.check}: {one.verdict}, {one.compared} compared. {one.detail}".rstrip())
            for cause in one.diagnosis:
                where = f" on axis {cause.axis}" if cause.axis else ""
                lines.append(f"    likely: {cause.cause}{where} (confidence {cause.confidence:.2f})")
        return "\n".join(line for line in lines if line)


def check(
    *,
    reference: Callable,
    candidate: Callable,
    parameters: Mapping[str, Any],
    batch: Mapping[str, Any],
    mesh: str,
    dtype: str = "float64",
    framework: str | None = None,
    roles: Mapping[str, str] | None = None,
) -> Judgement:
    """Compare a sharded function with a single-device one.

    reference  (parameters, batch) -> loss, or (loss, outputs); plain single-device code, differentiated here
    candidate  (parameters, batch, mesh) -> observations: `loss`, `gradients/<name>` for every parameter, and
               `outputs/<name>` for every output of the reference; mesh is a jax.sharding.Mesh or a torch DeviceMesh
    parameters, batch   name -> array of real numbers (batch: or whole numbers); both are rounded to the dtype first
    mesh       for example 'data=2,tensor=4', axes by any names; it is emulated, no accelerator is needed
    roles      axis -> its role (one of `conformance.roles.ROLES`), where the usual meaning of its name does not say it

    Both functions stand at the top level of a module, since the workers import them. Raises ValueError with one
    sentence for functions that cannot be found again, a bad mesh, dtype or role, and for inputs that are no numbers.
    """
    from conformance.run import Bench
    from conformance.workers.pool import Workers

    if dtype not in DTYPES:
        raise ValueError(f"Unknown dtype '{dtype}': the dtypes are {', '.join(DTYPES)}.")
    functions = Functions(
        framework=framework or _framework(candidate),
        reference=_where(reference),
        candidate=_where(candidate),
        parameters=parameters_in(dtype, parameters),
        batch=batch_in(dtype, batch),
        roles=dict(roles or {}),
    )
    asked = _mesh(mesh, functions)
    with (
        tempfile.TemporaryDirectory(prefix="shardproof-") as folder,
        Workers(jax_devices=asked.devices) as workers,
    ):
        path = Path(folder) / "functions.pickle"
        path.write_bytes(pickle.dumps(functions))
        case = Case(contract=f"{PREFIX}{path}", implementation=candidate.__name__, mesh=asked, dtype=dtype)
        target = Target(
            contract=contract(case.contract),
            framework=functions.framework,
            path=f"conformance.inline_{functions.framework}:Candidate",
        )
        return Judgement(result=Bench(workers=workers).judge_case(case, target))


def contract(name: str) -> Contract:
    """The contract behind `inline:<file>`: one step of the two functions, without an optimizer."""
    functions: Functions = pickle.loads(Path(name.removeprefix(PREFIX)).read_bytes())
    return Contract(
        name=name,
        summary="a sharded function against its single-device reference",
        model=functions,
        shapes={key: value.shape for key, value in functions.parameters.items()},
        parameters=lambda seed: functions.parameters,
        batches=lambda seed, steps: [functions.batch] * steps,
        references={functions.framework: f"conformance.inline_{functions.framework}:Reference"},
        recipe=Recipe(steps=1),
        roles=functions.roles,
    )


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


def _where(function: Callable) -> str:
    file, name = inspect.getsourcefile(function), getattr(function, "__qualname__", "")
    if file is None or not name.isidentifier():
        raise ValueError(
            f"'{name or function}' must be a function at the top level of a module: the workers import it."
        )
    return f"{Path(file).resolve()}:{name}"


def _framework(candidate: Callable) -> str:
    """The framework that the candidate's module has imported."""
    names = {
        getattr(value, "__name__", "").partition(".")[0]
        for value in vars(sys.modules[candidate.__module__]).values()
        if inspect.ismodule(value)
    }
    found = [framework for framework in ("jax", "torch") if framework in names]
    if len(found) != 1:
        raise ValueError("Say framework='jax' or framework='torch': the candidate's module imports neither or both.")
    return found[0]
