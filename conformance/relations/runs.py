"""What a relation may run: the program under test again, varied. Workers say how; relations know no worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from conformance.cases.case import Case
from conformance.contract.contract import Arrays, Contract, Recipe
from conformance.contract.mesh import Mesh
from conformance.evidence.evidence import ExtraRun, Observations


class Model(Protocol):
    """One object of the implementation, on one mesh."""

    @property
    def contract(self) -> Contract: ...

    def placed(self, parameters: Arrays) -> Any: ...

    def initialized(self, seed: int) -> Any: ...

    def saved(self, state: Any, folder: Path) -> None: ...

    def loaded(self, folder: Path) -> Any: ...

    def stepped(self, state: Any, batch: Arrays) -> tuple[Any, Mapping[str, Any]]: ...

    def observed(self, values: Mapping[str, Any]) -> Observations: ...

    def collected(self, state: Any) -> Observations: ...

    def first_step(self, parameters: Arrays, batch: Arrays) -> Observations: ...

    def step_from(self, state: Any, batch: Arrays) -> Observations: ...


class Processes(Protocol):
    """The processes of the case, which make every run together."""

    @property
    def allows_smaller_mesh(self) -> bool:
        """Whether a mesh may leave devices of the case out."""

    @property
    def is_leader(self) -> bool:
        """Whether this one does what one of them must do alone."""

    def barrier(self) -> None: ...

    def shared_folder(self) -> AbstractContextManager[Path]: ...


class Runs(Protocol):
    """One case as it was run, and the means to run it again. `others` are contracts of other sizes, with their classes.

    `first` is what the case observed in its first step.
    """

    case: Case
    contract: Contract
    parameters: Arrays
    batches: list[Arrays]
    first: Observations
    others: tuple[tuple[str, str], ...]

    @property
    def mesh(self) -> Mesh: ...

    @property
    def instance(self) -> Model: ...

    @property
    def platform(self) -> Processes: ...

    def fresh(self, *, mesh: Mesh | None = None, recipe: Recipe | None = None) -> Model:
        """A new object of the implementation under test, on another mesh of the same devices or with another recipe."""

    def another(self, name: str, path: str) -> Model:
        """An object for another contract."""

    def first_step(self, *, mesh: Mesh | None = None, recipe: Recipe | None = None) -> Observations:
        """The first step of the case by a new object."""

    def extra_run(
        self, label: str, body: Callable[[], Observations], mesh: Mesh | None = None, like: Observations | None = None
    ) -> ExtraRun:
        """Make one run; what the implementation raises is a result."""
