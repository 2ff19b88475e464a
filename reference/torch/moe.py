"""The mixture of experts, which takes the place of a feed-forward block.

B: rows  S: tokens of a row  D: hidden  E: experts  K: choices of a token  I, O: input and output features
For clarity every expert computes every token; the outputs that were not routed to it are multiplied by zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reference.architecture import Architecture, dense, places
from reference.torch import routing
from reference.torch.feedforward import FeedForward
from reference.torch.layers import Tensors, dtype_of, unset


class Router(nn.Module):
    """Logits over experts, x w; the router bias is not added to the logits, only to the scores that choose experts."""

    def __init__(self, model: Architecture) -> None:
        super().__init__()
        self.weight = unset(model.hidden, model.experts)
        self.bias = unset(model.experts) if model.router_bias else None

    def forward(self, x_BSD: Tensor) -> Tensor:
        return x_BSD @ self.weight

    def ranked(self, scores_BSE: Tensor) -> Tensor:
        return routing.ranked(scores_BSE, self.bias)


class Stack(nn.Module):
    """A linear map of its own for each expert: w_EIO and b_EO, stacked."""

    def __init__(self, experts: int, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.weight = unset(experts, inputs, outputs)
        self.bias = unset(experts, outputs) if bias else None

    def forward(self, x_EBSI: Tensor) -> Tensor:
        y_EBSO = x_EBSI @ self.weight[:, None]
        return y_EBSO if self.bias is None else y_EBSO + self.bias[:, None, None]


class Experts(nn.Module):
    """Feed-forward blocks side by side: GELU (tanh form) between two linear maps, or SwiGLU."""

    def __init__(self, model: Architecture) -> None:
        super().__init__()
        self.gate = Stack(model.experts, model.hidden, model.ffn, model.bias) if model.activation == "swiglu" else None
        self.up = Stack(model.experts, model.hidden, model.ffn, model.bias)
        self.down = Stack(model.experts, model.ffn, model.hidden, model.bias)

    def forward(self, x_EBSD: Tensor) -> Tensor:
        h_EBSF = self.up(x_EBSD)
        if self.gate is None:
            h_EBSF = nn.functional.gelu(h_EBSF, approximate="tanh")
        else:
            h_EBSF = nn.functional.silu(self.gate(x_EBSD)) * h_EBSF
        y_EBSD: Tensor = self.down(h_EBSF)
        return y_EBSD


class Mixture(nn.Module):
    """y = sum over the experts that a token is admitted to of gate * expert(x), plus shared(x) where there is one.

    With `gates_before` it is the sum of expert(gate * x). Gates multiply, and experts are summed, in `statistics`.
    Padding asks no expert, but the shared one serves it too. Where the batch has routing.<name> [B, S, K], those are
    the choices, -1 for none, and nothing else: gates are still the scores of those experts, load and balance count
    those choices, and places are given to them in their order.
    Source: Dai et al., DeepSeekMoE, section 3.
    """

    def __init__(self, model: Architecture, statistics: str) -> None:
        super().__init__()
        self.model = model
        self.statistics = dtype_of(statistics)
        self.router = Router(model)
        self.experts = Experts(model)
        self.shared = FeedForward(dense(model, model.shared_ffn)) if model.shared_ffn else None

    def forward(self, x_BSD: Tensor, batch: Tensors, name: str, observed: Tensors, terms: Tensors) -> Tensor:
        """Adds to `observed` logits, choices and the admitted ones, to `terms` load/<name> [E] and the losses.

        Under scores/<name> are the ranks of the router's own choices: either choice is right in a near tie.
        """
        logits_BSE = observed[f"activations/{name}.router"] = self.router(x_BSD)
        logits_BSE = logits_BSE.to(self.statistics)
        scores_BSE = routing.scores(logits_BSE, self.model.scores)
        ranked_BSE = self.router.ranked(scores_BSE)
        own_BSK = self.asked(routing.best(ranked_BSE, self.model.top_k), batch)
        observed[f"scores/{name}"] = routing.of_choices(ranked_BSE, own_BSK)
        choices_BSK = self.asked(batch[f"routing.{name}"].long(), batch) if f"routing.{name}" in batch else own_BSK
        observed[f"choices/{name}"] = choices_BSK.to(self.statistics)
        admitted_BSK = self.admitted(choices_BSK)
        observed[f"routing/{name}"] = admitted_BSK.to(self.statistics)

        asked_BSE = routing.fallen(choices_BSK, self.model.experts).sum(dim=2).to(self.statistics)
        terms[f"load/{name}"] = asked_BSE.sum(dim=(0, 1))
        terms[f"balance_loss/{name}"] = routing.balance(asked_BSE, scores_BSE, batch["attention_mask"], self.model)
        terms[f"router_z_loss/{name}"] = routing.router_z(logits_BSE, batch["attention_mask"])

        gates_BSK = routing.gates(scores_BSE, choices_BSK, self.model.normalized_gates)
        y_BSD = self.mixed(x_BSD, gates_BSK, admitted_BSK)
        return y_BSD if self.shared is None else y_BSD + self.shared(x_BSD)

    def asked(self, choices_BSK: Tensor, batch: Tensors) -> Tensor:
        """Choices with -1 for padding tokens, which are not routed."""
        return torch.where(batch["attention_mask"][..., None] > 0, choices_BSK, -1)

    def admitted(self, choices_BSK: Tensor) -> Tensor:
        """The choices within the capacity; a capacity of a whole slice is counted as if the slice were one long row."""
        of_batch, top_k = self.model.capacity_scope == "batch", self.model.top_k
        queues_BSK = choices_BSK.reshape(1, -1, top_k) if of_batch else choices_BSK
        limit = places(self.model, queues_BSK.shape[1])
        if limit is None:
            return choices_BSK
        return routing.admitted(queues_BSK, limit, self.model.experts).reshape(choices_BSK.shape)

    def mixed(self, x_BSD: Tensor, gates_BSK: Tensor, admitted_BSK: Tensor) -> Tensor:
        """The sum over experts; those that a token is not admitted to have weight zero."""
        gate_EBS1 = routing.spread(gates_BSK, admitted_BSK, self.model.experts).movedim(2, 0)[..., None]
        if self.model.gates_before:
            weight_EBS1 = routing.fallen(admitted_BSK, self.model.experts).any(dim=2).movedim(2, 0)[..., None]
            read_EBSD = (gate_EBS1 * x_BSD.to(self.statistics)).to(x_BSD.dtype)
        else:
            weight_EBS1, read_EBSD = gate_EBS1, x_BSD.expand(self.model.experts, *x_BSD.shape)
        said_EBSD = self.experts(read_EBSD).to(self.statistics)
        return torch.sum(weight_EBS1 * said_EBSD, dim=0).to(x_BSD.dtype)
