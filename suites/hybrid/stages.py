"""A mixture of experts in a stage of a pipeline. Framework-neutral.

Its losses are means over a whole slice of the batch, and it sees one microbatch at a time: what they are means of is
counted before the first microbatch begins. Every stage adds its share to the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from conformance.contract.implementation import Unsupported
from suites.moe.layout import TERMS

if TYPE_CHECKING:
    from suites.moe.layout import ExpertLayout
    from suites.pipeline.stages import Named, Stages

if TYPE_CHECKING:

    class Conforming(Stages, ExpertLayout):
        """A pipelined language model with expert parallelism, in either framework."""

        data_axes: tuple[str, ...]

        def sum_over(self, axes: tuple[str, ...], x: Any) -> Any: ...
        def wide(self, x: Any) -> Any: ...
        def microbatches(self, batch: Named) -> Any: ...
else:
    Conforming = object  # a mixin: it comes before the model in the bases


class MixtureInStages(Conforming):
    """Rows over data and expert, experts over expert, layers over pipeline."""

    row_axes: ClassVar[tuple[str, ...]] = ("data", "expert")
    model_axes: ClassVar[tuple[str, ...]] = ("expert", "tensor")

    def require_supported(self) -> None:
        super().require_supported()
        if self.contract.model.balance_loss and self.contract.model.balance_scope != "row":
            raise Unsupported(
                "A balance over all rows of a slice is known when all its microbatches are: declare one of each row."
            )

    def microbatches(self, batch):
        """With what is known of the whole slice, beside every row."""
        real, mask = batch["attention_mask"] > 0, batch["mask"]
        counts = {"weight": mask.sum(), "tokens": real.sum(), "rows": real.any(1).sum()}
        known = {f"slice.{name}": self.sum_over(self.data_axes, self.wide(n)) for name, n in counts.items()}
        return super().microbatches(batch | {name: self.wide(mask[:, 0]) * 0 + n for name, n in known.items()})

    def real_tokens(self, batch):
        return batch["slice.tokens"][0]

    def real_rows(self, batch):
        return batch["slice.rows"][0]

    def stage_sums(self, observed, batch):
        sums = super().stage_sums(observed, batch)
        for term in TERMS:
            shares = [observed.pop(name) for name in list(observed) if name.startswith(f"terms/{term}/")]
            if shares:
                mean = getattr(self.contract.model, term) * sum(shares) / len(self.mixtures)
                sums[f"metrics/{term}"] = mean * batch["slice.weight"][0]
                sums["loss"] = sums.get("loss", 0) + sums[f"metrics/{term}"]
        return sums
