"""A pipeline through whose skip connections no gradient flows back."""

import jax

from suites.pipeline.jax_manual import one_f_one_b
from suites.training.jax.state import Named


class Program(one_f_one_b.Perceptron):
    def stage_unit(self, name: str, p: Named, x: Named, batch: Named, observed: Named) -> Named:
        number = int(name.rpartition(".")[2])
        ends = [f"skip.{begin}" for begin, end in self.contract.model.skips if end == number]
        detached = {key: jax.lax.stop_gradient(x[key]) for key in ends}
        return super().stage_unit(name, p, x | detached, batch, observed)
