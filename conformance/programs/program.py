"""A random program: what it computes, in which framework, dtype and order of summation, on which mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conformance.cases.case import Dtype
from conformance.cases.usage import choose
from conformance.contract.contract import Arrays
from conformance.contract.implementation import FRAMEWORKS, Framework
from conformance.contract.mesh import Mesh
from conformance.inline.inputs import batch_in, parameters_in

KINDS = ("sum", "mean", "norm", "softmax", "product", "scan")
ORDERS = ("pairwise", "sequential", "chunked", "reversed")
MESHES = ("data=2", "data=4", "tensor=2", "tensor=4", "sequence=2", "sequence=4", "data=2,tensor=2",
          "sequence=2,tensor=2")  # fmt: skip
DTYPES: tuple[Dtype, ...] = ("float64", "float64", "float32", "bfloat16", "float16")
FEATURES = (1, 3, 8, 24)
MOST_TERMS = 10_000
PLANTED = 1e-11  # relative error of one gradient


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program. Its `terms` are divided over all axes of the mesh; every term has so many features.

    order     in which a device adds up its own terms; the reference adds up all of them in the library's
    spoiled   the parameter whose gradient is the one to plant an error in
    """

    seed: int
    framework: Framework
    kind: str
    order: str
    mesh: str
    dtype: Dtype
    terms: int
    features: int
    spoiled: str

    def __str__(self) -> str:
        shape = f"{self.terms} terms of {self.features}"
        return f"{self.framework} {self.kind}, {shape}, {self.order}, {self.mesh}, {self.dtype} (seed {self.seed})"

    def arrays(self) -> tuple[Arrays, Arrays]:
        """Parameters and batch, rounded to the dtype: terms depend on w, those of a product on v as well."""
        rng = np.random.default_rng([self.seed, self.terms])
        scale = 1.0 if self.kind != "sum" else 1 / np.sqrt(self.terms)
        parameters = {"w": rng.normal(size=self.features)}
        if self.kind == "product":
            parameters["v"] = rng.normal(size=self.terms) / np.sqrt(self.terms)
        batch = {"x": scale * rng.normal(size=(self.terms, self.features))}
        return parameters_in(self.dtype, parameters), batch_in(self.dtype, batch)

    @property
    def source(self) -> str:
        """The file of a user who has written it."""
        return (
            f"from conformance.programs.in_{self.framework} import candidate_of, reference_of\n"
            "from conformance.programs.program import Program\n"
            f"PROGRAM = {self!r}\n"
            "reference, candidate = reference_of(PROGRAM), candidate_of(PROGRAM)\n"
        )


def draw(seed: int, framework: Framework) -> Program:
    """The program of a seed: 2 to 10,000 terms, evenly drawn on a logarithmic scale."""
    rng = np.random.default_rng(seed)
    mesh = str(rng.choice(MESHES))
    devices = Mesh.parse(mesh).devices
    per_device = int(np.exp(rng.uniform(np.log(max(2 / devices, 1)), np.log(MOST_TERMS / devices))))
    kind = str(rng.choice(KINDS))
    return Program(
        seed=seed,
        framework=framework,
        kind=kind,
        order=str(rng.choice(ORDERS)),
        mesh=mesh,
        dtype=choose("dtype", str(rng.choice(DTYPES)), DTYPES),
        terms=per_device * devices,
        features=int(rng.choice(FEATURES)),
        spoiled=str(rng.choice(["w", "v"])) if kind == "product" else "w",
    )


def drawn(count: int, framework: Framework) -> list[Program]:
    """The share of a framework in so many programs: both frameworks write the same ones."""
    place = FRAMEWORKS.index(framework)
    return [draw(number // len(FRAMEWORKS), framework) for number in range(place, count, len(FRAMEWORKS))]
