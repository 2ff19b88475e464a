"""The precision policy: which values are rounded, to what, and that float64 knows nothing of it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from conformance.contract.contract import Precision, Recipe
from reference.architecture import Architecture, shapes
from reference.batches import cancelling_batches, cut, parts
from reference.parameters import draw
from reference.precision import policy
from tests.reference.table import ADAMW_2, EXAMPLES, FRAMEWORKS, SGD, Example, relative_error, to_numpy, trainer

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)
NARROW = Precision(parameters="bfloat16", compute="bfloat16", gradients="bfloat16", reduction="bfloat16")
LAYER = EXAMPLES["layer"]
LINEAR = Architecture(kind="linear", hidden=24, outputs=8)


def narrow(values: np.ndarray) -> np.ndarray:
    return values.astype(bfloat16).astype(np.float64)


def steps(framework: str, example: Example, dtype: str = "float32", number: int = 3) -> list[dict]:
    training, seen = trainer(framework, example, dtype), []
    state = training.place(example.parameters())
    for batch in example.batches()[:number]:
        state, observed = training.step(state, batch)
        seen.append(dict(observed) | training.collect(state))
    return seen


def with_precision(precision: Precision, recipe: Recipe = SGD, **changes) -> Example:
    return replace(LAYER, recipe=replace(recipe, precision=precision, **changes))


def dtypes(step: dict) -> dict[str, set[str]]:
    """Kind of tensor -> dtypes."""
    dtypes_seen: dict[str, set[str]] = {}
    for tensor, value in step.items():
        kind = tensor.rpartition("/layer.")[0] or tensor
        dtypes_seen.setdefault(kind, set()).add(str(value.dtype).removeprefix("torch."))
    return dtypes_seen


@EVERY_FRAMEWORK
def test_each_dtype_is_where_the_policy_says(framework):
    held = dtypes(steps(framework, with_precision(replace(NARROW, master="float32"), ADAMW_2), number=1)[0])
    for kind in ("parameters", "gradients", "activations", "outputs/y"):
        assert held[kind] == {"bfloat16"}, kind
    slots = ("first_moment", "second_moment", "master")
    for kind in (*(f"optimizer/{slot}" for slot in slots), "loss", "metrics/grad_norm", "metrics/tokens"):
        assert held[kind] == {"float32"}, kind


@EVERY_FRAMEWORK
def test_float64_knows_nothing_of_it(framework):
    """The oracle has a master copy to compare with, and it is the parameters."""
    observations = steps(framework, with_precision(replace(NARROW, master="float32")), "float64")
    wanted = steps(framework, LAYER, "float64")
    for left, right in zip(observations, wanted, strict=True):
        assert all(np.array_equal(to_numpy(left[tensor]), to_numpy(value)) for tensor, value in right.items())
        for name in LAYER.shapes:
            assert np.array_equal(to_numpy(left[f"optimizer/master/{name}"]), to_numpy(left[f"parameters/{name}"]))


@EVERY_FRAMEWORK
def test_parameters_are_rounded_and_a_master_copy_remembers(framework):
    """Updates below half a unit of bfloat16 are lost without a master copy, and add up in one."""
    recipe = replace(SGD, learning_rate=2**-14, weight_decay=0.0, clip_norm=None)
    forgetful = steps(framework, with_precision(Precision(parameters="bfloat16"), recipe))
    mindful = steps(framework, with_precision(Precision(parameters="bfloat16", master="float32"), recipe))
    for name, value in LAYER.parameters().items():
        last = to_numpy(forgetful[-1][f"parameters/{name}"])
        large = np.abs(value) > 0.125
        assert np.array_equal(last[large], narrow(value)[large])
        masters = [to_numpy(step[f"optimizer/master/{name}"]) for step in mindful]
        moved = [np.mean(before != after) for before, after in zip([value, *masters], masters, strict=False)]
        assert max(moved) > 0.5 or np.max(np.abs(to_numpy(mindful[0][f"gradients/{name}"]))) < 1e-6, name
        for step, master in zip(mindful, masters, strict=True):
            assert np.array_equal(to_numpy(step[f"parameters/{name}"]), narrow(master))


@EVERY_FRAMEWORK
def test_narrow_gradients_are_what_the_optimizer_reads(framework):
    """The norm is of the reported gradients, and the momentum holds them."""
    recipe = replace(SGD, weight_decay=0.0, clip_norm=None, accumulation=2)
    for step in steps(framework, with_precision(Precision(gradients="bfloat16"), recipe), number=1):
        gradients = {name: to_numpy(step[f"gradients/{name}"]) for name in LAYER.shapes}
        assert all(np.array_equal(narrow(value), value) for value in gradients.values())
        norm = np.sqrt(sum(np.sum(value**2) for value in gradients.values()))
        assert relative_error(to_numpy(step["metrics/grad_norm"]), norm) < 1e-6
        for name, value in gradients.items():
            assert np.array_equal(to_numpy(step[f"optimizer/momentum/{name}"]), value)


def cancelling(framework: str, precision: Precision, rows: slice = slice(None), number: int = 24):
    """Gradient sums of some rows of a cancelling batch on one device, in a float32 case: name -> array."""
    example = Example(model=LINEAR, recipe=Recipe(precision=precision))
    training = trainer(framework, example, "float32")
    batch = cancelling_batches(LINEAR, number, 1, 3, 1)[0]
    held = {key: value[rows] for key, value in batch.items()}
    _, observed = training.step(training.place(draw(shapes(LINEAR), 3, dyadic=True)), held)
    weight = max(held["mask"].sum(), 1) * LINEAR.outputs
    return {name: to_numpy(observed[f"gradients/{name}"]) * weight for name in shapes(LINEAR)}


@EVERY_FRAMEWORK
def test_a_reduction_is_rounded_part_by_part(framework):
    """Three rows a part, added up in bfloat16 one after the other."""
    exact = cancelling(framework, Precision())
    observed = cancelling(framework, Precision(reduction="bfloat16"))
    for name, value in observed.items():
        total = np.zeros_like(value, dtype=bfloat16)
        for part in range(8):
            piece = cancelling(framework, Precision(), slice(3 * part, 3 * part + 3))[name]
            total = total + piece.astype(bfloat16)
        assert np.array_equal(total.astype(np.float64), value), name
        assert np.all(value != exact[name]), name


@EVERY_FRAMEWORK
@pytest.mark.parametrize("devices", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("compute", [None, "bfloat16"])
def test_cancelling_batches_are_exact_on_every_part(framework, devices, compute):
    """Float32 on every device, or bfloat16: the sum in float32 is the gradient, a sum in bfloat16 nowhere is."""
    number = 24 if devices < 8 else 16
    whole = cancelling("torch", Precision(), number=number)
    edges = [number * i // devices for i in range(devices + 1)]
    precision = Precision(compute=compute)
    held = [cancelling(framework, precision, slice(*edge), number) for edge in pairwise(edges)]
    for name, value in whole.items():
        assert np.array_equal(sum(part[name] for part in held), value), name
        total = np.zeros_like(value, dtype=bfloat16)
        for part in held:
            assert np.array_equal(narrow(part[name]), part[name]), name
            total = total + part[name].astype(bfloat16)
        assert np.all(total.astype(np.float64) != value), name
        assert np.all(narrow(value) != value), name


def test_cancelling_batches_are_refused_where_they_would_round():
    for model, rows in ((LINEAR, 5), (replace(LINEAR, hidden=32), 8), (Architecture(kind="layer", hidden=8), 8)):
        with pytest.raises(ValueError, match="at most 31 features"):
            cancelling_batches(model, rows, 1, 0, 1)


def test_policies():
    assert set(vars(policy("float64", NARROW)).values()) == {"float64", None}
    wide = policy("bfloat16", Precision(statistics="float64"))
    assert (wide.compute, wide.statistics, wide.parameters, wide.optimizer) == (
        "bfloat16", "float64", "float32", "float32",
    )  # fmt: skip
    with pytest.raises(ValueError, match="No precision rules for dtype 'float8'"):
        policy("float32", Precision(gradients="float8"))


def test_parts_are_as_equal_as_can_be():
    batch = {"mask": np.arange(11)}
    assert [len(part["mask"]) for part in parts(batch, 8)] == [2, 2, 2, 1, 1, 1, 1, 1]
    assert [len(part["mask"]) for part in parts({"mask": np.arange(3)}, 8)] == [1, 1, 1]
    assert np.concatenate([part["mask"] for part in cut(batch, [4, 0, 7])]).tolist() == list(range(11))
