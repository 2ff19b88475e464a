from __future__ import annotations

from torch import Tensor

from suites.moe.torch_manual.exchange import Mixture
from suites.training.torch.state import Named


class Program(Mixture):
    def fed(self, x_BSD: Tensor, batch: Named, name: str, p: Named, observed: Named) -> Tensor:
        """Routed and shared experts leave the tensor-parallel region together, by one sum."""
        if name not in self.mixtures:
            return super().fed(x_BSD, batch, name, p, observed)
        routed_BSD, shared = self.mixture(x_BSD, batch, name, p, observed), f"{name}.shared"
        hidden_BSF = self.hidden_features(self.enter_block(x_BSD), shared, p)
        y_BSD = self.leave_block(routed_BSD + hidden_BSF @ p[f"{shared}.down.weight"])
        return y_BSD + p[f"{shared}.down.bias"]
