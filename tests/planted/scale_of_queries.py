"""Tensor-parallel attention whose key heads are normalised with the scale of the query heads."""

from torch import Tensor

from suites.tensor.torch_manual import attention
from suites.training.torch.state import Named


class Program(attention.Attention):
    def attention(self, x_BSD: Tensor, batch: Named, name: str, p: Named) -> Tensor:
        q_BSHE, k_BSKE, v_BSKE = self.query_key_value(self.enter_block(x_BSD), name, p)
        q_BSHE, k_BSKE = (self.head_norm(heads, f"{name}.query_norm", p) for heads in (q_BSHE, k_BSKE))
        q_BSHE, k_BSKE = self.rotate(q_BSHE), self.rotate(k_BSKE)
        mixed_BSHE = self.recomputed_core(self.attend)(q_BSHE, k_BSKE, v_BSKE, batch)
        return self.row_linear(mixed_BSHE.flatten(2), f"{name}.output", p)
