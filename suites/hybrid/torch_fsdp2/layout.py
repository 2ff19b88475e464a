"""Where FSDP2 keeps what DTensor has divided over tensor before. Framework-neutral."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from conformance.contract.placements import Placements, Shard

if TYPE_CHECKING:
    from suites.tensor.dtensor_layout import DTensorLayout as Conforming
else:
    Conforming = object  # a mixin: it comes before the layout of a sharded stream by DTensor in the bases


class UnitShards(Conforming):
    """Over fsdp along the first dim as a module stores it, whatever the tensor axis has divided before."""

    row_axes: ClassVar[tuple[str, ...]] = ("data", "fsdp")
    model_axes: ClassVar[tuple[str, ...]] = ("fsdp", "tensor")

    @property
    def gradient_axes(self) -> tuple[str, ...]:
        """FSDP2 has summed them."""
        return ()

    def placements(self, name: str) -> Placements:
        placements = super().placements(name)
        if name not in self.contract.shapes:  # an observation
            return placements
        return {"fsdp": Shard(1 if self.is_turned(name) else 0), **placements}

    def is_turned(self, name: str) -> bool:
        """nn.Linear keeps its weight as [out, in]."""
        return len(self.contract.shapes[name]) > 1 and name != "embedding.weight"
