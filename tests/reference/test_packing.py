"""Batches for what models read besides their inputs: documents, seeds, weights; and rows that are shared out badly."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.workers.execute import changed
from reference.architecture import Architecture
from reference.batches import random_batches, shard_edges, skewed_batches, text_batches, weighted_batches
from reference.packing import document_starts
from reference.parameters import generator
from tests.reference.table import EXAMPLES, to_numpy, trainer

PLAIN = Architecture(kind="language_model", hidden=5, vocabulary=29, layers=1)
PACKED = replace(PLAIN, documents=True, shift_labels=True, dropout=0.25)

# Of what was drawn before there were documents, seeds and weights: a new key must not move an old one.
DIGESTS = {
    ("linear", False): "ae12fb8a821b8a17",
    ("linear", True): "853ae2350be520fc",
    ("feedforward", False): "bc4c0f07abd20313",
    ("feedforward", True): "6f4587fbd5456378",
    ("layer", False): "d771c95cf29cbd62",
    ("layer", True): "3d28597a52849f57",
    ("language_model", False): "c49c6890676f178f",
}


@pytest.mark.parametrize(("kind", "dyadic"), DIGESTS)
def test_old_batches_stay(kind, dyadic):
    model = PLAIN if kind == "language_model" else Architecture(kind=kind, hidden=5, outputs=3 * (kind == "linear"))
    digest = hashlib.sha256()
    for batch in random_batches(model, 6, 7, 3, 2, dyadic):
        for key in sorted(batch):
            digest.update(f"{key} {batch[key].dtype} {batch[key].shape} ".encode() + batch[key].tobytes())
    assert digest.hexdigest()[:16] == DIGESTS[kind, dyadic]


def test_new_keys_leave_the_others_alone():
    plain, packed = random_batches(PLAIN, 6, 7, 3, 2), random_batches(PACKED, 6, 7, 3, 2)
    for old, new in zip(plain, packed, strict=True):
        assert set(new) == {"tokens", "mask", "attention_mask", "document_starts", "seeds"}
        moved = old["tokens"] != new["tokens"]
        assert set(new["tokens"][moved].tolist()) <= {0, 28, *shard_edges(29).tolist()}
        assert np.all(new["attention_mask"] >= old["attention_mask"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=st.integers(1, 12), length=st.integers(2, 11), seed=st.integers(0, 10**6))
def test_documents(rows, length, seed):
    document_starts_BS = document_starts(generator(seed, "documents"), rows, length)
    counts = document_starts_BS.sum(axis=1)
    assert set(np.unique(document_starts_BS)) <= {0, 1}
    assert document_starts_BS[:, 0].all()
    assert counts[0] == 2
    assert document_starts_BS[0, length // 2] == 1
    assert counts.max() <= 4
    assert rows == 1 or counts.min() == 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows=st.integers(1, 9), length=st.integers(3, 11), seed=st.integers(0, 10**6), skewed=st.booleans())
def test_no_last_token_counts_and_no_row_falls_silent(rows, length, seed, skewed):
    make = skewed_batches if skewed else random_batches
    plain, packed = make(PLAIN, rows, length, seed, 1)[0], make(PACKED, rows, length, seed, 1)[0]
    mask, last = packed["mask"], np.roll(packed["document_starts"], -1, axis=1) > 0
    assert not mask[last].any()
    assert np.all(mask <= packed["attention_mask"])
    heard = plain["mask"].any(axis=1) & ~last.all(axis=1)
    assert np.array_equal(mask.any(axis=1), heard)
    assert np.all(mask.sum(axis=1) <= np.maximum(plain["mask"].sum(axis=1), 0))


def test_seeds_differ_by_row_and_step():
    seeds = np.concatenate([batch["seeds"] for batch in random_batches(PACKED, 24, 7, 0, 3)])
    assert seeds.dtype == np.int32
    assert len(np.unique(seeds)) == 72


def test_a_model_without_attention_reads_no_documents():
    assert "document_starts" not in random_batches(replace(PACKED, layers=0), 6, 7, 0, 1)[0]
    block = Architecture(kind="feedforward", hidden=5, documents=True, dropout=0.5)
    assert set(random_batches(block, 6, 7, 0, 1)[0]) == {"inputs", "targets", "mask"}


def test_packed_text_knows_its_documents():
    model = replace(PACKED, vocabulary=257)
    plain = text_batches(replace(model, documents=False, shift_labels=False), 6, 24, 0, 1)[0]
    packed = text_batches(model, 6, 24, 0, 1)[0]
    ends = np.argmin(plain["mask"][[1, 4]], axis=1)
    assert np.array_equal(np.flatnonzero(packed["document_starts"][1]), [0, ends[0] + 1])
    assert np.array_equal(np.flatnonzero(packed["document_starts"][4]), [0, ends[1] + 1])
    counted = packed["mask"][:, :-1] > 0
    assert np.array_equal(packed["tokens"][:, 1:][counted], plain["targets"][:, :-1][counted])
    assert not packed["mask"][:, -1].any()


@pytest.mark.parametrize("rows", [6, 12, 24])
def test_skewed_rows(rows):
    """With 3 shards or 8 one has nothing at all; with 2 the first has less than a third of what the second has."""
    for batch in skewed_batches(PLAIN, rows, 8, 1, 2):
        counts = batch["mask"].sum(axis=1)
        assert not counts[: rows // 3].any()
        assert counts[rows // 3] == 1
        assert counts[-(rows // 3) :].min() >= 6
        assert counts[: rows // 2].sum() < counts[rows // 2 :].sum() / 3
        assert np.all(batch["mask"] <= batch["attention_mask"])
    mask = skewed_batches(Architecture(kind="linear", hidden=3, outputs=2), rows, 1, 1, 1)[0]["mask"]
    assert not mask[: rows // 3].any()
    assert mask[rows // 3] == mask[-1] == 1
    assert mask.sum() in (2, 4, 8)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(rows=st.integers(1, 9), length=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_skewed_batches_are_never_empty(rows, length, seed):
    assert skewed_batches(PLAIN, rows, length, seed, 1)[0]["mask"].any()
    assert skewed_batches(Architecture(kind="linear", hidden=3, outputs=2), rows, 1, seed, 1)[0]["mask"].any()


def test_weights():
    plain, weighted = random_batches(PLAIN, 6, 7, 3, 2), weighted_batches(PLAIN, 6, 7, 3, 2)
    for old, new in zip(plain, weighted, strict=True):
        assert np.array_equal(old["mask"] > 0, new["mask"] > 0)
        assert set(np.unique(new["mask"])) == {0, 0.5, 1, 2, 4}
        assert all(np.array_equal(old[key], new[key]) for key in old if key != "mask")


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_key_of_a_batch_matters(name):
    """Rolled by one along every dim, as the census rolls it, each key changes something in the first step."""
    example = EXAMPLES[name]
    training, batch = trainer("torch", example), example.batches()[0]
    before = training.step(training.place(example.parameters()), batch)[1]
    for key in batch:
        after = training.step(training.place(example.parameters()), batch | {key: changed(batch[key])})[1]
        assert any(not np.array_equal(to_numpy(after[tensor]), to_numpy(before[tensor])) for tensor in before), key
