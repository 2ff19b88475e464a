"""Experts that admit one token of a row more than their capacity: `<=` in place of `<`."""

import torch
from torch import Tensor

from suites.moe.torch_manual import exchange, routing


class Program(exchange.Mixture):
    def admitted(self, choices_BSK: Tensor) -> Tensor:
        before_BSK = routing.numbered(choices_BSK, self.contract.model.experts)
        return torch.where(before_BSK <= self.places_in_row, choices_BSK, -1)
