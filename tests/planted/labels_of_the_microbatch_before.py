"""1F1B whose last stage takes the labels of the microbatch before the one that it has the activations of."""

from suites.pipeline.schedule import ACTIVATION, Event
from suites.pipeline.torch_manual import one_f_one_b
from suites.pipeline.torch_manual.executor import Passed, Slice


class Program(one_f_one_b.LanguageModel):
    def forward_pass(self, event: Event, now: Slice) -> None:
        stage, m = event.stage, event.microbatch
        batch = now.microbatches[m]
        enters, passthrough = self.from_batch(batch) if stage == 0 else now.messages.pop((ACTIVATION, stage, m))
        enters = {name: x.detach().requires_grad_() for name, x in enters.items()}
        p = {name: now.leaves[name] for name in self.stage_parameters(stage)}
        labels = batch if stage == 0 else now.microbatches[m - 1]
        out, seen, sums = self.stage(stage, self.to_compute(p), enters, passthrough | self.at_ends(stage, labels))
        now.passed[stage, m] = Passed(inputs=enters, outputs=out, loss=sums.get("loss"))
        now.messages[ACTIVATION, stage + 1, m] = out, passthrough
        now.sums |= {name: now.sums[name] + value.detach() for name, value in sums.items()}
        self.note(seen, m, now)
