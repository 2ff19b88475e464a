"""What a step of somebody's returned, as observations by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from conformance.workers.observe import Unreadable

GROUPS = ("outputs", "gradients", "input_gradients", "metrics", "activations", "buffers", "parameters", "optimizer",
          "ema")  # fmt: skip

Leaves = Callable[[Any], Mapping[str, Any]]


def named(returned: Any, leaves: Leaves) -> dict[str, Any]:
    """Observations by name. A group, `gradients` say, may come as one tree, whose `leaves` are named by their paths.

    Somebody's reference returns the loss, (loss, outputs) or outputs; so may a candidate.
    """
    if isinstance(returned, tuple) and len(returned) == 2:
        loss, outputs = outputs_of(returned, leaves)
        return {f"outputs/{name}": value for name, value in outputs.items()} | {"loss": loss}
    if not isinstance(returned, Mapping):
        return {"loss": returned}
    observations: dict[str, Any] = {}
    for name, value in returned.items():
        if name in GROUPS and not _is_leaf(value, leaves):
            observations |= {f"{name}/{own}": leaf for own, leaf in leaves(value).items()}
        else:
            observations[str(name)] = value
    return observations


def outputs_of(returned: Any, leaves: Leaves) -> tuple[Any, Mapping[str, Any]]:
    """Loss and outputs of what a reference returned; outputs alone, as a mapping, have no loss.

    Outputs are a tree, whose `leaves` are named by their paths; one that is no tree is called 'y'. Raises ValueError.
    """
    if isinstance(returned, Mapping):
        if "loss" in returned:
            raise ValueError("The reference returns a mapping with a 'loss': return (loss, outputs), or outputs alone.")
        return None, _outputs(returned, leaves)
    if isinstance(returned, tuple) and len(returned) != 2:
        raise ValueError(
            f"The reference returns a tuple of {len(returned)}: return the loss, (loss, outputs), or outputs alone."
        )
    loss, outputs = returned if isinstance(returned, tuple) else (returned, {})
    return loss, _outputs(outputs if isinstance(outputs, Mapping) else {"y": outputs}, leaves)


def _outputs(outputs: Mapping[str, Any], leaves: Leaves) -> Mapping[str, Any]:
    """By name; what is a tree itself by the paths of its leaves. Lists of plain numbers are arrays."""
    named_outputs: dict[str, Any] = {}
    for name, value in outputs.items():
        parts = {"": value} if _is_numbers(value) else leaves(value)
        named_outputs |= {f"{name}.{own}" if own else str(name): leaf for own, leaf in parts.items()}
    return named_outputs


def _is_numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(x, (int, float)) or _is_numbers(x) for x in value)


def _is_leaf(value: Any, leaves: Leaves) -> bool:
    try:
        return list(leaves(value)) == [""]
    except ValueError as failure:
        raise Unreadable(str(failure)) from failure
