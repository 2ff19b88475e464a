"""What the keys of a batch hold, in words; a key `routing.<layer>` is told under `routing`."""

from __future__ import annotations

KEYS = {
    "tokens": "ids of the tokens of a row",
    "targets": "what outputs are compared with: ids of next tokens or of classes, or numbers like the outputs",
    "mask": "how much a token (or a row) counts in the loss; 0 where it does not",
    "attention_mask": "1 for a real token, 0 for padding, which no other token attends to",
    "inputs": "the activations that enter the block, or the images or features of a classifier",
    "seeds": "one seed of dropout per row",
    "document_starts": "1 at the first token of a document; tokens attend within their document",
    "routing": "the experts that each token chooses, by number; every run makes these choices",
    "evaluation.tokens": "ids of a held-out set, whose loss is reported and changes nothing",
    "evaluation.targets": "its labels",
    "evaluation.mask": "how much its tokens count",
    "evaluation.attention_mask": "1 for its real tokens, 0 for padding",
}
