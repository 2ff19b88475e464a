"""The nn.Modules that FSDP2 wraps: they hold parameters under canonical names, and call a given function.

FSDP2 gathers the parameters of a module when it is called and reshards them when it returns. So the module of a decoder
layer is a node of a tree of names, and its call is given the function to compute with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard


class Node(nn.Module):
    """`node(compute, ...)` is `compute(parameters, ...)`: the gathered ones below this node, by their paths from it."""

    def forward(self, compute: Callable[..., Any], *arguments: Any) -> Any:
        return compute(dict(self.named_parameters()), *arguments)


def tree(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> Node:
    """A node for every word of the dotted names, with parameters of these shapes, yet without values."""
    root = Node()
    for name, shape in shapes.items():
        *path, leaf = name.split(".")
        node: nn.Module = root
        for word in path:
            if word not in dict(node.named_children()):
                node.add_module(word, Node())
            node = node.get_submodule(word)
        node.register_parameter(leaf, nn.Parameter(torch.zeros(shape, dtype=dtype)))
    return root


def sharded(root: Node, layers: list[str], mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> Node:
    """Every layer is a unit that is gathered by itself, and what belongs to none is the last one.

    FSDP2 divides gradients by the number of ranks that it sums over, a mean of sums of losses. Here the sum is wanted:
    the divisor is set to 1, and reductions to plain sums, since Gloo cannot multiply on the way.
    """
    for path in [*layers, ""]:
        fully_shard(root.get_submodule(path), mesh=mesh, mp_policy=policy)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return root


def fill(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Overwrite the shards of a module, and forget its gradients."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.to_local().copy_(values[name].to_local())  # type: ignore[operator, attr-defined]
            p.grad = None
