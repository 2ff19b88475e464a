"""Ids at the edges of vocabulary shards, where an off-by-one comparison shows.

B: rows  S: tokens of a row
"""

from __future__ import annotations

import numpy as np

from reference.architecture import Architecture
from reference.parameters import Arrays, generator

_AXIS_SIZES = (2, 4, 3, 8)  # sizes of a tensor axis whose shard edges get tokens, the usual ones first


def shard_edges(vocabulary: int) -> np.ndarray:
    """First and last ids of vocabulary shards, cut in ceil-sized chunks or as evenly as can be, for common axes."""
    return np.array(sorted(set(_edges(vocabulary)) - {0, vocabulary - 1}), dtype=np.int32)


def with_shard_edges(model: Architecture, batch: Arrays, seed: int, step: int) -> Arrays:
    """A batch of a language model whose labels are the next tokens, with the edges that it lacks put into it.

    Law: as far as there is room, each of 0, the last id and the edges of shards is a real token, and the label of a
    valid one; edges of the commonest axes come first. An id stands where it is both at once. What has a `targets` key
    keeps it in step.
    """
    tokens_BS = batch["tokens"].copy()
    both_BS = (np.roll(batch["mask"], 1, axis=1) > 0) & (batch.get("attention_mask", np.ones_like(batch["mask"])) > 0)
    both_BS[:, 0] = False
    places = generator(seed, f"edges {step}").permutation(np.flatnonzero(both_BS)).tolist()
    _put(_edges(model.vocabulary)[: len(places)], tokens_BS.reshape(-1), places)
    if "targets" not in batch:
        return batch | {"tokens": tokens_BS}
    targets_BS = batch["targets"].copy()
    targets_BS[:, :-1] = np.where(both_BS[:, 1:], tokens_BS[:, 1:], targets_BS[:, :-1])
    return batch | {"tokens": tokens_BS, "targets": targets_BS}


def _put(wanted: list[int], tokens: np.ndarray, places: list[int]) -> None:
    """Write the ids that none of these places holds, and leave one of each that some do hold."""
    held = {int(tokens[place]): place for place in places}
    free = iter([place for place in places if place not in {held.get(token) for token in wanted}])
    for token in wanted:
        if token not in held:
            tokens[next(free)] = token


def _edges(vocabulary: int) -> list[int]:
    """The first and the last id of every shard, each once, by axis size."""
    edges = [0, vocabulary - 1]
    for size in _AXIS_SIZES:
        for part in range(1, size):
            cuts = (part * -(-vocabulary // size), part * vocabulary // size)
            edges += [edge for cut in cuts for edge in (cut - 1, cut) if 0 < edge < vocabulary - 1]
    return list(dict.fromkeys(edges))
