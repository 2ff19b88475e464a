"""What a mixture of experts declares, in words: two contracts that differ here are both right."""

from __future__ import annotations

from dataclasses import replace

from conformance.contract.contract import Contract
from reference.architecture import Architecture, is_router_bias, mixtures


def declared(contract: Contract) -> Contract:
    """A contract that says what it means by its mixtures; in narrow dtypes their choices are those of the oracle.

    No gradient reaches the bias of a router: it only joins in the choice.
    """
    still = tuple(f"gradients/{name}" for name in contract.shapes if is_router_bias(name))
    replayed = {f"choices/{name}": f"routing.{name}" for name in mixtures(contract.model)}
    semantics = {**contract.semantics, **_semantics(contract.model)}
    return replace(contract, semantics=semantics, replayed=replayed, still=still)


def _semantics(model: Architecture) -> dict[str, str]:
    """Term -> its definition, for a model with mixtures."""
    scope = "each row" if model.balance_scope == "row" else "all rows of a slice"
    return {
        "choice": _choice(model),
        "gates": _gates(model),
        "capacity": _capacity(model),
        "balance_loss": f"{model.balance_loss:g} x experts x sum over experts of (share in all choices) x (mean share "
        f"in the scores), over {scope}, averaged over mixtures; slices weigh as much as their valid elements "
        "(Switch Transformers, section 2.2)",
        "router_z_loss": f"{model.router_z_loss:g} x mean over real tokens of logsumexp(router logits)^2, averaged "
        "likewise (ST-MoE, equation 5)",
        "load": "choices of real tokens by expert, before any is dropped",
    }


def _choice(model: Architecture) -> str:
    what = f"the {model.top_k} experts of the highest {model.scores} score"
    if model.router_bias:
        what += (
            " plus a bias that no gradient moves: after each step it goes "
            f"{model.bias_update_rate:g} up where the load of the whole batch lies below the mean, and down where "
            "above (DeepSeek-V3, section 2.1.2)"
        )
    return f"{what}; of equals the lower number; padding has none"


def _gates(model: Architecture) -> str:
    what = "score by the sum of those of all choices of the token" if model.normalized_gates else "score"
    where = "reads" if model.gates_before else "says"
    shared = "; a shared expert serves every token with weight 1" if model.shared_ffn else ""
    return f"the {what}, multiplied with what an expert {where}{shared}"


def _capacity(model: Architecture) -> str:
    if not model.capacity_factor:
        return "none: no choice is dropped"
    places = f"ceil({model.capacity_factor:g} x tokens x {model.top_k} / {model.experts})"
    scope = "in a row" if model.capacity_scope == "row" else "in a slice, whose rows make one long row"
    return (
        f"an expert has {places} places {scope}; first choices come before second ones, earlier tokens before later "
        "ones, and what finds no place is dropped"
    )
