"""The laws of stored order: nothing is lost, every rank stores equally much, every element counts once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from suites.tensor.layout import positions
from suites.training.state_layout import first_copies

RANKS = st.sampled_from([1, 2, 3, 4, 8])
FEATURES = st.lists(st.tuples(st.integers(1, 40), st.just(1)), min_size=1, max_size=3)


@given(FEATURES, RANKS)
def test_every_feature_is_stored_once(sections: list[tuple[int, int]], ranks: int) -> None:
    stored = positions(sections, ranks)
    assert stored.size % ranks == 0
    assert sorted(stored[stored >= 0]) == list(range(sum(units for units, _ in sections)))


@given(FEATURES, RANKS)
def test_sections_meet_on_their_rank(sections: list[tuple[int, int]], ranks: int) -> None:
    """The j-th gate feature of a rank stands beside the j-th up feature of the same rank."""
    features = sections[0][0]
    gate, up = np.split(positions([(features, 1)] * 2, ranks).reshape(ranks, -1), 2, axis=1)
    assert np.array_equal(np.where(gate >= 0, gate + features, -1), up)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 6))
def test_repeated_heads_serve_their_query_heads(kv_heads: int, repeats: int, head_size: int) -> None:
    """Rank r of kv_heads x repeats ranks, with one query head each, stores key head r // repeats."""
    ranks = kv_heads * repeats
    stored = positions([(kv_heads, head_size)], ranks)
    assert np.array_equal(stored.reshape(ranks, head_size)[:, 0] // head_size, np.arange(ranks) // repeats)
    assert sorted(stored[first_copies(stored)]) == list(range(kv_heads * head_size))
