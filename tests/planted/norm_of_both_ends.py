"""A global norm in which the embedding, which the first and the last stage share, counts twice."""

import jax

from suites.hybrid.jax_manual import pipelined_context
from suites.pipeline.jax_manual.pipeline import Pipeline


class Program(pipelined_context.LanguageModel):
    def block_norm(self, name: str, block: jax.Array, rank: int) -> jax.Array:
        return super(Pipeline, self).squared_norm(name, block)
