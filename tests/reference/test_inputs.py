"""Canonical parameters and batches have the awkward features that they promise."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reference.architecture import CLASSIFIERS, Architecture
from reference.batches import random_batches, shard_edges, text_batches
from reference.byte_corpus import documents
from reference.parameters import draw, generator
from reference.valid_masks import ragged
from tests.reference.table import EXAMPLES

MODEL = Architecture(kind="language_model", hidden=8, vocabulary=29)
SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=2).map(tuple)
NAMES = st.text("abcdefg.", min_size=1, max_size=8)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(drawn=st.dictionaries(NAMES, SHAPES, min_size=2, max_size=5), seed=st.integers(0, 2**31), dyadic=st.booleans())
def test_a_draw_does_not_depend_on_the_other_names(drawn, seed, dyadic):
    together = draw(drawn, seed, dyadic)
    for name, shape in drawn.items():
        assert np.array_equal(together[name], draw({name: shape}, seed, dyadic)[name])


@pytest.mark.parametrize("dyadic", [False, True])
def test_nothing_is_zero_or_one_by_default(dyadic):
    for name, value in draw(EXAMPLES["model, everything"].shapes, 0, dyadic).items():
        assert value.dtype == np.float64
        assert np.array_equal(value, value.astype(np.float32))
        assert np.all(value != 0), name
        if dyadic:
            assert set(np.unique(value * 4)) <= {-4, -3, -2, -1, 1, 2, 3, 4}
        else:
            assert len(np.unique(value)) == value.size, name
            assert np.all(value != 1), name


def test_draws_differ_by_name_and_seed_and_have_the_right_scale():
    shapes = {"a.weight": (400, 50), "b.weight": (400, 50), "embedding.weight": (50, 400)}
    first, second = draw(shapes, 0), draw(shapes, 1)
    assert not np.array_equal(first["a.weight"], first["b.weight"])
    assert not np.array_equal(first["a.weight"], second["a.weight"])
    for name in shapes:
        assert abs(first[name].std() * 20 - 1) < 0.02, name
        assert abs(first[name].mean()) < 0.001, name


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rows=st.integers(1, 12), length=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_ragged_rows(rows, length, seed):
    """One row empty, one with one token, one full; valid tokens are real; a batch is never empty."""
    mask, attention_mask = ragged(generator(seed, "rows"), rows, length)
    counts = sorted(mask.sum(axis=1))
    assert mask.shape == attention_mask.shape == (rows, length)
    assert set(np.unique(mask)) | set(np.unique(attention_mask)) <= {0, 1}
    assert np.all(mask <= attention_mask)
    assert mask.sum() > 0
    if rows >= 3 and length >= 2:
        assert counts[0] == 0
        assert counts[1] == 1
        assert rows < 4 or counts[-1] == length


def test_padding_comes_from_every_side():
    _, attention_mask = ragged(generator(0, "rows"), 200, 8)
    left, right = attention_mask[:, 0] == 0, attention_mask[:, -1] == 0
    inside = np.array([np.any(np.diff(np.flatnonzero(row)) > 1) for row in attention_mask])
    for kind in (left & ~right, right & ~left, inside, ~left & ~right & ~inside):
        assert kind.sum() >= 10


@pytest.mark.parametrize("name", EXAMPLES)
def test_batches_differ_and_repeat(name):
    example = EXAMPLES[name]
    batches, again = example.batches(), example.make(example.model, 6, 7, 1, 3)
    data = "tokens" if example.model.kind == "language_model" else "inputs"
    assert not np.array_equal(batches[0][data], batches[1][data])
    for batch, same in zip(batches, again, strict=True):
        assert all(np.array_equal(batch[key], same[key]) for key in batch)
        assert len(np.unique(batch[data].reshape(6, -1), axis=0)) == 6
        for key, value in batch.items():
            classes = data == "tokens" or example.model.kind in CLASSIFIERS
            whole = key in ("tokens", "seeds") or (key == "targets" and classes)
            assert value.dtype == (np.int32 if whole else np.float64)
            assert whole or np.array_equal(value, value.astype(np.float32)), key


@settings(max_examples=30, deadline=None, derandomize=True)
@given(rows=st.integers(1, 40), seed=st.integers(0, 100))
def test_a_power_of_two_of_linear_rows_counts(rows, seed):
    batch = random_batches(Architecture(kind="linear", hidden=3, outputs=2), rows, 1, seed, 1, dyadic=True)[0]
    valid = int(batch["mask"].sum())
    assert valid & (valid - 1) == 0
    assert valid >= 1
    assert rows == 1 or valid < rows


@settings(max_examples=30, deadline=None, derandomize=True)
@given(vocabulary=st.integers(2, 200), size=st.sampled_from([2, 3, 4, 8]))
def test_shard_edges_are_those_of_ceil_sized_chunks(vocabulary, size):
    assume(vocabulary > 2 * size)
    chunk = -(-vocabulary // size)
    starts = set(range(chunk, vocabulary - 1, chunk))
    assert starts <= set(shard_edges(vocabulary).tolist())


def test_tokens_reach_the_edges_of_shards():
    """Enough room: 0, the last id and every edge are among the real tokens and among the valid targets; some repeat."""
    batch = random_batches(replace(MODEL, layers=1), 12, 16, 0, 1)[0]  # padding is for attention
    wanted = {0, 28, *shard_edges(29).tolist()}
    assert wanted <= set(batch["tokens"][batch["attention_mask"] > 0].tolist())
    assert wanted <= set(batch["targets"][batch["mask"] > 0].tolist())
    assert len(np.unique(batch["tokens"])) < batch["tokens"].size
    assert batch["tokens"].min() == batch["targets"].min() == 0
    assert batch["tokens"].max() == batch["targets"].max() == 28


def test_text_is_the_standard_library():
    """Every window of real tokens stands in some document, but for ids at the edges of shards that the text lacks.

    Targets are the next bytes; document ends do not count.
    """
    model = Architecture(kind="language_model", hidden=8, vocabulary=256)
    texts = [path.read_bytes() for path in documents()]
    for batch in text_batches(model, 6, 24, 0, 2):
        valid = batch["mask"][:, :-1] > 0
        assert np.array_equal(batch["targets"][:, :-1][valid], batch["tokens"][:, 1:][valid])
        for row in (0, 3):
            window = [*batch["tokens"][row].tolist(), batch["targets"][row, -1]]
            assert any(_pattern(window).search(text) for text in texts)
            assert batch["mask"][row].all()
        for row in (1, 4):  # packed: one document ends inside
            assert batch["attention_mask"][row].all()
            assert batch["mask"][row].sum() == 23
            end = int(np.argmin(batch["mask"][row])) + 1
            assert any(_pattern(batch["tokens"][row, :end].tolist()).fullmatch(text[-end:]) for text in texts)
        for row in (2, 5):  # short: it ends, then padding
            real = int(batch["attention_mask"][row].sum())
            assert batch["mask"][row].sum() == real - 1
            assert any(_pattern(batch["tokens"][row, :real].tolist()).fullmatch(text[-real:]) for text in texts)


def _pattern(tokens: list[int]) -> re.Pattern[bytes]:
    """These bytes, and any byte in place of an id at the edge of a shard."""
    edges = {0, 255, *shard_edges(256).tolist()}
    return re.compile(b"".join(b"." if token in edges else re.escape(bytes([token])) for token in tokens), re.DOTALL)


@pytest.mark.parametrize("shifted", [False, True])
def test_text_reaches_the_edges_of_shards(shifted):
    model = Architecture(kind="language_model", hidden=8, vocabulary=257, shift_labels=shifted)
    wanted = {0, 256, *shard_edges(257).tolist()}
    for batch in text_batches(model, 8, 32, 0, 2):
        labels = np.roll(batch["tokens"], -1, axis=1) if shifted else batch["targets"]
        assert wanted <= set(batch["tokens"][batch["attention_mask"] > 0].tolist())
        assert wanted <= set(labels[batch["mask"] > 0].tolist())


def test_text_needs_a_language_model_over_bytes():
    with pytest.raises(ValueError, match="at least 256 ids"):
        text_batches(MODEL, 2, 4, 0, 1)
