from __future__ import annotations

from functools import cached_property

from torch import Tensor

from suites.pipeline.schedule import GRADIENT, INPUT_BACKWARD, WEIGHT_BACKWARD, Event
from suites.pipeline.stages import INPUT_GRADIENTS
from suites.pipeline.torch_manual.executor import Slice
from suites.pipeline.torch_manual.zero_bubble import Perceptron


class WeightGradStore:
    """Gradients of outputs that wait until the gradients of weights are due."""

    def __init__(self) -> None:
        self.cache: list[tuple[Tensor, ...]] = []

    def put(self, gradients: tuple[Tensor, ...]) -> None:
        self.cache.append(gradients)

    def get(self) -> tuple[Tensor, ...]:
        return self.cache.pop()


class Program(Perceptron):
    @cached_property
    def waiting(self) -> WeightGradStore:
        return WeightGradStore()

    def backward_pass(self, event: Event, now: Slice) -> None:
        stage, m, kind = event.stage, event.microbatch, event.kind
        passed = now.passed[stage, m]
        if kind == WEIGHT_BACKWARD:
            passed.gradients = self.waiting.get()
        else:
            passed.gradients = self.output_gradients(passed, now.messages.pop((GRADIENT, stage, m), ({}, {}))[0])
            if kind == INPUT_BACKWARD:
                self.waiting.put(passed.gradients)
        names = self.stage_parameters(stage) if kind != INPUT_BACKWARD else ()
        inputs = passed.inputs if kind != WEIGHT_BACKWARD else {}
        wanted = [*inputs.values(), *(now.leaves[name] for name in names)]
        gradients = self.differentiate(passed, wanted, keep=kind == INPUT_BACKWARD) if wanted else ()
        g_inputs = dict(zip(inputs, gradients, strict=False))
        self.accumulate_gradients(dict(zip(names, gradients[len(inputs) :], strict=True)), kind, now)
        if kind != WEIGHT_BACKWARD and stage > 0:
            now.messages[GRADIENT, stage - 1, m] = g_inputs, {}
        if stage == 0 and g_inputs:
            self.note({INPUT_GRADIENTS: g_inputs["x"].to(self.master)}, m, now)
        if kind != INPUT_BACKWARD:
            del now.passed[stage, m]
