"""A pipeline whose messages between stages are rounded to bfloat16."""

from suites.pipeline.jax_manual import gpipe, wire
from suites.pipeline.jax_manual.executor import Message
from suites.training.jax.state import Named


class Program(gpipe.Perceptron):
    def message(self, activations: Named, passthrough: Named) -> Message:
        plan = self.plan.wire
        floats = wire.flat(activations, plan.floats, "bfloat16").astype(plan.dtype)
        return Message(floats, wire.flat(passthrough, plan.wholes, "int32"))
