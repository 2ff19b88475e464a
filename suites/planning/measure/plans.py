"""The plans of the published table: sizes, meshes, microbatches and policies that a search returns or passes by."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.cases.plannable import Layout, Training
from conformance.contract.mesh import Mesh
from conformance.planner.units import parameters
from suites.hybrid.plans import PLANS as SCALE_PLANS
from suites.planning.shapes import MIXTURES, sized

NAMED = {plan.name: plan.contract.model for plan in SCALE_PLANS}
NAMED |= {name: mixture.model for name, mixture in MIXTURES.items()}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One row of the table; `fitted`: the counts of `suites.planning.working` were fitted to it, among others."""

    size: str
    mesh: str
    rows: int
    length: int
    microbatches: int = 1
    recompute: str = "layer"
    parameters: str = "float32"
    schedule: str = ""
    fitted: bool = False

    @property
    def key(self) -> str:
        slices = f"{self.rows}x{self.length} k{self.microbatches}"
        staged = f" {self.schedule}" if self.schedule else ""
        return f"{self.size} {self.mesh} {slices} {self.recompute} {self.parameters}{staged}"

    @property
    def training(self) -> Training:
        model = NAMED[self.size] if self.size in NAMED else sized(parameters(self.size)).model
        family = "mixture" if model.experts else "decoder"
        return Training(family=family, model=model, rows=self.rows, length=self.length, parameters=self.parameters)

    @property
    def layout(self) -> Layout:
        mesh = Mesh.parse(self.mesh)
        return Layout(mesh=mesh, microbatches=self.microbatches, recompute=self.recompute, schedule=self.schedule)


def _row(
    size: str, mesh: str, rows: int, length: int, k: int = 1, recompute: str = "layer", **more: object
) -> Measured:
    return Measured(size=size, mesh=mesh, rows=rows, length=length, microbatches=k, recompute=recompute, **more)  # type: ignore[arg-type]


HELD_OUT = (
    _row("175B", "fsdp=16,tensor=4", 1536, 2048, 16),
    _row("7B", "fsdp=2,tensor=4", 64, 4096, 32, parameters="bfloat16"),
    _row("70B", "fsdp=16,tensor=8", 1024, 4096, 32),
    _row("13B", "data=2,fsdp=16", 128, 2048, 4),
    _row("1.3B", "fsdp=4,tensor=2", 64, 2048, 8, "attention"),
    _row("8B", "fsdp=32", 512, 8192, 16),
    _row("175B", "fsdp=128,tensor=8", 1536, 2048, 12),
    _row("2.7B", "data=2,fsdp=4", 64, 2048, 8, "attention"),
    _row("405B", "fsdp=128,tensor=8", 512, 8192, 4),
    _row("30B", "fsdp=16,tensor=2", 128, 2048, 8),
    _row("760M", "data=8", 64, 2048, 8, "none"),
    _row("7B", "fsdp=16,tensor=2", 128, 4096, 2),
    _row("13B", "fsdp=8,tensor=4", 128, 2048, 1, "attention"),
    _row("70B", "data=2,fsdp=32,tensor=4", 256, 4096, 4),
    _row("8B", "data=2,fsdp=8,tensor=2", 128, 4096, 8, "attention"),
    _row("175B", "data=2,fsdp=32,tensor=8", 1536, 2048, 12, parameters="bfloat16"),
    _row("1.3B", "fsdp=16", 64, 2048, 4, "none"),
    _row("30B", "fsdp=64", 256, 2048, 2),
    _row("405B", "fsdp=64,tensor=16", 1024, 8192, 16),
    _row("2.7B", "fsdp=8", 128, 2048, 16, parameters="bfloat16"),
    _row("100B", "fsdp=128", 256, 2048, 2),
    _row("13B", "fsdp=64", 512, 2048, 8, "attention"),
    _row("70B", "fsdp=128,tensor=2", 512, 4096, 4),
    _row("7B", "fsdp=8,tensor=8", 64, 4096, 8, "attention"),
    _row("8B", "fsdp=8,sequence=2", 16, 8192),
    _row("8B", "data=2,fsdp=4,sequence=2,tensor=2", 32, 8192, 2, "attention"),
    _row("1.3B", "fsdp=4,sequence=4", 16, 8192, 2, "none"),
    _row("13B", "fsdp=8,sequence=2,tensor=4", 16, 8192),
    _row("1.3B", "data=2,sequence=4", 16, 8192, 2),
    _row("7B", "data=4,sequence=2", 32, 4096, 1, "attention"),
    _row("70B", "fsdp=8,sequence=2,tensor=8", 64, 4096, 2),
    _row("405B", "fsdp=64,sequence=2,tensor=8", 256, 8192, 2),
    _row("7B", "fsdp=6,tensor=2", 48, 4096, 2),
    _row("13B", "data=3,fsdp=5", 60, 2048, 2),
    _row("8x7B", "fsdp=4,expert=4,tensor=4", 64, 4096),
    _row("8x7B", "fsdp=8,expert=4,tensor=2", 128, 2048),
    _row("8x22B", "fsdp=8,expert=8,tensor=4", 128, 4096),
    _row("671b-mixture", "fsdp=32,expert=32,tensor=4", 1024, 4096),
)
STAGED = (
    _row("8B", "pipeline=4,fsdp=4,tensor=2", 64, 4096, 8, schedule="1f1b"),
    _row("13B", "pipeline=2,fsdp=8", 128, 2048, 8, schedule="1f1b"),
    _row("70B", "pipeline=8,fsdp=2,tensor=8", 64, 4096, 16, schedule="1f1b"),
    _row("175B", "pipeline=8,fsdp=8,tensor=8", 512, 2048, 16, schedule="1f1b"),
    _row("7B", "pipeline=2,data=2,tensor=4", 32, 4096, 8, schedule="gpipe"),
    _row("2.7B", "pipeline=4,data=2,fsdp=2", 64, 2048, 8, schedule="1f1b"),
)
FITTED = (
    _row("175B", "fsdp=8,tensor=8", 64, 2048, fitted=True),
    _row("8B", "fsdp=8", 16, 4096, fitted=True),
    _row("175B", "fsdp=8,tensor=8", 64, 2048, 4, fitted=True),
    _row("8B", "fsdp=8", 16, 4096, 2, fitted=True),
    _row("175B", "fsdp=8,tensor=8", 64, 2048, 8, parameters="bfloat16", fitted=True),
    _row("7B", "fsdp=8", 64, 4096, 8, fitted=True),
    _row("7B", "fsdp=4,tensor=2", 64, 4096, 4, fitted=True),
    _row("7B", "fsdp=8", 64, 4096, 8, parameters="bfloat16", fitted=True),
    _row("13B", "fsdp=16", 64, 2048, fitted=True),
    _row("13B", "data=2,fsdp=8", 64, 2048, 2, fitted=True),
    _row("13B", "fsdp=4,tensor=4", 64, 2048, 4, "attention", fitted=True),
    _row("8B", "fsdp=8", 16, 4096, 1, "none", fitted=True),
    _row("8B", "fsdp=8", 16, 4096, 1, "attention", fitted=True),
    _row("8B", "data=2,fsdp=2,tensor=2", 8, 4096, 2, "attention", fitted=True),
    _row("1.3B", "fsdp=8", 64, 2048, 4, "none", fitted=True),
    _row("1.3B", "data=8", 64, 2048, 8, "none", fitted=True),
    _row("1.3B", "data=2,fsdp=4", 64, 2048, 8, "attention", fitted=True),
    _row("8x7B", "fsdp=8,expert=8", 64, 4096, fitted=True),
    _row("671b-mixture", "data=2,fsdp=8,expert=16,tensor=8", 1024, 4096, fitted=True),
    _row("8x7B", "fsdp=16,expert=2,tensor=2", 256, 4096, fitted=True),
    _row("8x7B", "data=2,fsdp=4,expert=8,tensor=4", 256, 4096, fitted=True),
    _row("8x22B", "fsdp=16,expert=4,tensor=8", 512, 4096, fitted=True),
    _row("671b-mixture", "fsdp=8,expert=64,tensor=8", 2048, 4096, parameters="bfloat16", fitted=True),
)
PLANS = (*HELD_OUT, *STAGED, *FITTED)
