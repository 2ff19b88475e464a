"""A mixture of experts between blocks whose residual stream is sharded along its tokens. Framework-neutral.

All five axes that divide a layer at once: rows over data, fsdp and expert, tokens over sequence and tensor, features
over tensor, experts over expert, and what is stored of all parameters over fsdp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.contract.placements import Placements

if TYPE_CHECKING:
    from suites.moe.layout import ExpertLayout
    from suites.sequence.token_layout import StreamLayout

if TYPE_CHECKING:

    class Conforming(StreamLayout, ExpertLayout):
        """Full sharding and expert parallelism of a model with a sharded stream, in either framework."""

        def mixture(self, x: Any, *given: Any) -> Any: ...
        def split_to_tensor(self, x: Any, dim: int) -> Any: ...
        def gather_from_tensor(self, x: Any, dim: int) -> Any: ...
else:
    Conforming = object  # a mixin: it comes before the model in the bases


class MixtureInStream(Conforming):
    """Tokens of the stream are brought together over the tensor axis to be routed, and sharded again behind it."""

    row_axes: ClassVar[tuple[str, ...]] = ("data", "fsdp", "expert")
    model_axes: ClassVar[tuple[str, ...]] = ("fsdp", "expert", "tensor")
    inner_axes: ClassVar[tuple[str, ...]] = ("expert", "tensor")

    def mixture(self, x, *given):
        """Every device of the tensor axis routes the same tokens: what it computes with them is replicated there."""
        return self.split_to_tensor(super().mixture(self.gather_from_tensor(x, 1), *given), 1)

    def is_partial(self, name: str) -> bool:
        return super().is_partial(name) and not _is_routed(name)

    @property
    def routed_length(self) -> int:
        return self.chunks() * self.chunk_width()

    def output_placements(self) -> dict[str, Placements]:
        """Logits of a router and choices are those of blocks, as the outputs of the model are."""
        return {**super().output_placements(), **dict.fromkeys(self.routed_observations, self.block_placements())}

    def positions(self, name: str):
        if name not in self.routed_observations:
            return super().positions(name)
        return {**self.block_order(), **self.row_positions}

    @property
    def routed_observations(self) -> tuple[str, ...]:
        kinds = ("activations/{}.router", "scores/{}", "choices/{}", "routing/{}")
        return tuple(kind.format(name) for name in self.mixtures for kind in kinds)


def _is_routed(name: str) -> bool:
    return ".router." in name or ".experts." in name
