"""The decoder as FSDP2 wants it: each layer is a unit that is gathered by itself and computed again inside its module.

B: rows  S: tokens  D: hidden
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from suites.tensor.torch_dtensor import transformer
from suites.training.torch.recompute import recomputing
from suites.training.torch.state import Named


class DecoderLayer(transformer.DecoderLayer):
    """Hands out what it observed: FSDP2 copies the containers that a module is given."""

    def forward(self, x_BSD: Tensor, batch: Named, name: str) -> tuple[Tensor, Named]:  # type: ignore[override]
        observed = self.tokens.new_observations()
        run = recomputing(self.computed) if self.tokens.recomputes else self.computed
        return run(x_BSD, batch, name, {}, observed), observed

    def computed(self, x_BSD: Tensor, batch: Named, name: str, p: Named, observed: Named) -> Tensor:
        return super().forward(x_BSD, batch, name, observed)


class Decoder(transformer.Decoder):
    layer_class: ClassVar[type[nn.Module]] = DecoderLayer

    def run_layer(self, layer: nn.Module, x_BSD: Tensor, batch: Named, name: str, observed: Named) -> Tensor:
        x_BSD, seen = layer(x_BSD, batch, name)
        observed.update(seen)
        return x_BSD


def wrap(
    module: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy, ignored: set[nn.Parameter] | None = None
) -> None:
    """Make a module a unit: its parameters that no unit within it has are gathered and reduced together.

    Parameters that are ignored stay as they are.
    FSDP2 divides gradients by the number of ranks that it sums over, a mean of sums of losses. Here the sum is wanted:
    the divisor is set to 1, and reductions to plain sums, since Gloo cannot multiply on the way.
    """
    unit = fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=ignored)
    assert isinstance(unit, FSDPModule)
    unit.set_gradient_divide_factor(1.0)
    unit.set_force_sum_reduction_for_comms(True)
