"""Ring attention with an early and a late chunk on every rank, so that a causal mask gives all of them equal work.

Of 2n chunks rank i holds chunk i and chunk 2n-1-i. Positions, documents and masks follow from `token_order`.
B: rows  C: the two chunks at hand
Source: Grattafiori et al., The Llama 3 Herd of Models, section 3.3.2 (context parallelism).
"""

from __future__ import annotations

import torch
from torch import Tensor

from suites.sequence.step_budget import ZIGZAGS
from suites.sequence.token_layout import ZigzagOrder
from suites.sequence.torch_manual import sequence_parallel
from suites.sequence.torch_manual.ring import Ring


class Zigzag(ZigzagOrder, Ring):
    """The ring masks by position, so that only the order of the tokens differs."""

    sends = ZIGZAGS

    def first_of_next(self, first_BC: Tensor) -> Tensor:
        """Behind the early chunk of a rank comes that of the next one, behind the late chunk that of the one before.

        The last rank holds both chunks in the middle of the row; behind the last chunk of all there is nothing.
        """
        if self.context_size() == 1:
            return super().first_of_next(first_BC)
        early_B, late_B = self.pass_by(first_BC[:, 0], -1), self.pass_by(first_BC[:, 1], 1)
        if self.context_rank() == self.context_size() - 1:
            early_B = first_BC[:, 1]
        return torch.stack([early_B, late_B], dim=1)


class FeedForward(Zigzag, sequence_parallel.FeedForward):
    pass


class Attention(Zigzag, sequence_parallel.Attention):
    pass


class Layer(Zigzag, sequence_parallel.Layer):
    pass


class LanguageModel(Zigzag, sequence_parallel.LanguageModel):
    pass
