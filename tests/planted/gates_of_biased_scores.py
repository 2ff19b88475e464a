"""A mixture with a router bias, after DeepSeek-V3."""

import jax

from suites.moe.jax import routing
from suites.moe.jax_manual import ragged


class Program(ragged.Mixture):
    def mixture(self, x_BSD, batch, name, p, observed):
        logits_BSE = observed[f"activations/{name}.router"] = self.router_logits(x_BSD, p[f"{name}.router.weight"])
        wide_BSE = logits_BSE.astype(self.master)
        scores_BSE = routing.scored(wide_BSE, self.contract.model.scores)
        biased_BSE = scores_BSE + jax.lax.stop_gradient(p[f"{name}.router.bias"].astype(self.master))
        own_BSK = self.asked(self.best(biased_BSE), batch)
        observed[f"scores/{name}"] = routing.of_choices(biased_BSE, own_BSK)
        choices_BSK = self.asked(batch[f"routing.{name}"], batch) if f"routing.{name}" in batch else own_BSK
        observed[f"choices/{name}"] = choices_BSK.astype(self.master)
        admitted_BSK = self.admitted(choices_BSK)
        observed[f"routing/{name}"] = admitted_BSK.astype(self.master)
        self.note_terms(name, wide_BSE, scores_BSE, choices_BSK, batch, observed)
        gates_BSK = routing.gated(biased_BSE, choices_BSK, self.contract.model.normalized_gates)
        return self.mixed(x_BSD, gates_BSK, admitted_BSK, name, p)
