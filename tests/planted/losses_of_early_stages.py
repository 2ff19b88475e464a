"""Mixtures of experts in stages under 1F1B."""

from suites.hybrid.torch_manual import pipelined_mixture
from suites.pipeline.schedule import ACTIVATION
from suites.pipeline.torch_manual.executor import Passed


class Program(pipelined_mixture.LanguageModel):
    def forward_pass(self, event, now):
        stage, m = event.stage, event.microbatch
        batch, is_last = now.microbatches[m], stage == self.schedule.stages - 1
        enters, passthrough = self.from_batch(batch) if stage == 0 else now.messages.pop((ACTIVATION, stage, m))
        enters = {name: x.detach().requires_grad_() for name, x in enters.items()}
        p = {name: now.leaves[name] for name in self.stage_parameters(stage)}
        out, seen, sums = self.stage(stage, self.to_compute(p), enters, passthrough | self.at_ends(stage, batch))
        loss = sums["loss"] if is_last else None
        now.passed[stage, m] = Passed(inputs=enters, outputs=out, loss=loss)
        now.messages[ACTIVATION, stage + 1, m] = out, passthrough
        now.sums |= {name: now.sums[name] + value.detach() for name, value in sums.items()}
        self.note(seen, m, now)
