"""An axis that divides nothing is found, and nothing else is taken for one; a dead reference shows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from conformance.checks import CHECKS
from conformance.contract.implementation import Declarations
from conformance.contract.mesh import Mesh
from conformance.evidence.comparison import CaseRun
from conformance.evidence.division import divided, repeats
from conformance.evidence.evidence import Block, Computed, Division, Observations, Observed
from conformance.records.results import CheckResult
from tests.engine import specimen
from tests.engine.specimen import case_run

WHOLE = 1000  # operations of the reference
SAME = Division(alike=WHOLE, own=0, own_products=0)


def _judged(name: str, made: CaseRun) -> CheckResult:
    return next(check for check in CHECKS if check.name == name).judge(made)


def _whole(observations: Observations) -> Observations:
    """The same, with all of every tensor on every rank."""
    return {
        name: replace(
            tensor, blocks=(replace(tensor.blocks[0], ranks=tuple(range(8)), index=(slice(0, 1),) * len(tensor.shape)),)
        )
        for name, tensor in observations.items()
    }


def _made(division: dict[str, Division] | None = None, replicated: tuple[str, ...] = (), **evidence: object) -> CaseRun:
    """Every tensor whole on every rank of data=2,tensor=4, and a program of which this much is known."""
    made = case_run(division=division or {}, declarations=Declarations(), **evidence)
    initial, steps = _whole(made.evidence.initial), tuple(map(_whole, made.evidence.steps))
    whole = replace(made.evidence, initial=initial, steps=steps)
    contract = specimen.contract(replicated_axes=replicated)
    return replace(made, evidence=whole, contract=contract, reference=replace(made.reference, operations=WHOLE))


DIVIDED = Division(alike=0, own=WHOLE // 2, own_products=0)


@pytest.mark.parametrize(
    ("division", "hollow"),
    [
        (SAME, True),
        (Division(alike=WHOLE, own=WHOLE // 50, own_products=0), True),  # masks by rank
        (Division(alike=WHOLE, own=WHOLE // 50, own_products=8), False),
        (Division(alike=WHOLE, own=WHOLE // 5, own_products=0), False),
        (Division(alike=WHOLE, own=0, own_products=0, own_tables=1), False),
        (Division(alike=WHOLE // 8, own=0, own_products=0), False),  # blocks of a constant have the same values
    ],
)
def test_an_axis_is_judged_by_what_its_ranks_compute(division: Division, hollow: bool) -> None:
    result = _judged("layout", _made({"data": DIVIDED, "tensor": division}))
    assert (result.verdict == "fail") == hollow
    if hollow:
        assert result.detail == ("Axis 'tensor' divides nothing: every rank along it holds and computes everything.")
        assert [cause.axis for cause in result.diagnosis] == ["tensor"]


def test_axes_that_divide_nothing_are_named_together() -> None:
    result = _judged("layout", _made({"data": SAME, "tensor": SAME}))
    assert result.detail.startswith("Axes 'data' and 'tensor' divide nothing")
    assert [cause.axis for cause in result.diagnosis] == ["data", "tensor"]


def test_beside_an_axis_that_divides_a_function_is_told_of_an_idle_one() -> None:
    made = _made({"data": SAME, "tensor": DIVIDED})
    result = _judged("layout", replace(made, contract=replace(made.contract, held=False)))
    assert result.verdict == "pass"
    assert result.not_held.startswith("Axis 'data' divides nothing")
    assert "replicated_axes=('data',)" in result.not_held
    whole = _made({"data": SAME, "tensor": SAME})
    assert _judged("layout", replace(whole, contract=replace(whole.contract, held=False))).verdict == "fail"


def test_a_pipeline_that_runs_whole_on_every_rank_divides_nothing() -> None:
    masked = Division(alike=WHOLE // 3, own=2 * WHOLE // 3, own_products=500)
    made = _made({"data": DIVIDED, "tensor": masked}, flops=dict.fromkeys(range(8), 8000))
    assert _judged("layout", made).verdict == "fail"
    less = _made({"data": DIVIDED, "tensor": masked}, flops=dict.fromkeys(range(8), 4000))
    assert _judged("layout", less).verdict == "pass"


def _function(flops: dict[int, int], skipped: int = 0) -> CheckResult:
    """A function on data=2,tensor=4 of which nothing is kept in parts; the reference makes 8,000 operations."""
    division = {"data": DIVIDED, "tensor": replace(DIVIDED, skipped_products=skipped)}
    made = _made(division, flops=flops)
    return _judged("layout", replace(made, contract=replace(made.contract, held=False)))


def test_one_rank_that_does_it_all_divides_nothing() -> None:
    alone = _function({rank: 0 if rank % 4 else 4000 for rank in range(8)})
    words = "One rank along axis 'tensor' makes all products, another one none: the axis divides no work."
    assert (alone.verdict, alone.detail) == ("fail", words)
    assert _function(dict.fromkeys(range(8), 1000), skipped=4000).verdict == "fail"


def test_ranks_that_all_do_it_all_on_other_values_are_said() -> None:
    busy = _function(dict.fromkeys(range(8), 4000))
    assert busy.verdict != "fail"
    assert "The busiest rank along axis 'tensor' makes as many products as one device would" in busy.not_held
    assert not _function(dict.fromkeys(range(8), 1500)).not_held  # a third more than its share: computed twice


@pytest.mark.parametrize(
    ("homes", "said"),
    [({"optimizer/count": 0}, None), ({"optimizer/count": 0, "optimizer/scale": 0}, None), ({"w": 0, "v": 3}, "v")],
)
def test_what_lies_on_the_first_device_alone_divides_nothing(homes: dict[str, int], said: str | None) -> None:
    """A counter that was placed nowhere; but where other tensors lie on other ranks, stages do."""
    mesh = Mesh.parse("pipeline=4")
    everywhere = Observed(shape=(2,), dtype="float64", blocks=(_block((0, 1, 2, 3)),))
    kept = {"everywhere": everywhere}
    kept |= {name: replace(everywhere, blocks=(_block((home,)),)) for name, home in homes.items()}
    assert divided(kept, mesh, "pipeline") == said


def _block(ranks: tuple[int, ...]) -> Block:
    return Block(ranks=ranks, index=(slice(0, 2),), value=np.ones(2))


def test_equal_parts_are_known_in_any_order() -> None:
    x, y = np.arange(8.0).reshape(4, 2), np.arange(4)
    same = {"x": np.concatenate([x, x[::-1]]), "y": np.concatenate([y, y[::-1]]), "scale": np.ones(())}
    assert repeats(same, 2)
    assert not repeats(same | {"y": np.concatenate([y, y])}, 2)  # other rows belong together
    assert not repeats({"x": np.arange(8.0)}, 2)
    assert not repeats({"x": np.arange(6.0)}, 4)


def test_what_is_held_in_parts_is_divided() -> None:
    made = case_run(division={"data": DIVIDED, "tensor": SAME})
    assert _judged("layout", made).verdict == "pass"


@pytest.mark.parametrize("replicated", [(), ("tensor",)])
def test_an_axis_of_which_nothing_is_known_is_not_held(replicated: tuple[str, ...]) -> None:
    unwatched = "it cannot be traced as a whole (TypeError: no)"
    result = _judged("layout", _made({"data": DIVIDED}, replicated, unwatched=unwatched))
    assert result.verdict == "pass"
    assert "on purpose" not in result.detail
    assert result.not_held.startswith("Whether axis 'tensor' divides anything is not known")
    assert result.not_held.endswith("because it cannot be traced as a whole (TypeError: no).")


def test_why_the_work_of_a_watched_step_is_not_known_is_said() -> None:
    result = _judged("layout", _made({"data": DIVIDED}, unseen={"work": "a result has no bits of its own (A: b)"}))
    assert (result.verdict, result.not_held.rpartition(": ")[2]) == ("pass", "b).")


def test_an_axis_may_divide_nothing_on_purpose_and_is_held_to_that() -> None:
    meant = _judged("layout", _made({"data": DIVIDED, "tensor": SAME}, ("tensor",)))
    assert (meant.verdict, meant.detail) == ("pass", "Axis 'tensor' divides nothing, on purpose.")
    broken = _judged("layout", _made({"data": DIVIDED, "tensor": DIVIDED}, ("tensor",)))
    assert broken.detail == "Axis 'tensor' is said to be replicated, but it divides the work."


def _computed(digests: list[int], operations: int = 100, tables: Sequence[int] = ()) -> Computed:
    size = len(digests)
    return Computed(
        digests=np.array(digests, dtype=np.uint64),
        operations=np.full(size, operations),
        products=np.zeros(size, dtype=bool),
        tables=np.array(tables, dtype=np.uint32),
    )


@pytest.mark.parametrize(("own", "verdict"), [(False, "fail"), (True, "pass")])
def test_ranks_are_laid_side_by_side_by_what_they_computed(own: bool, verdict: str) -> None:
    """Results 0 to 9 depend on the coordinate of 'data'; on that of 'tensor' too, or not."""
    mesh = specimen.MESH
    where = [mesh.coordinates(rank) for rank in range(8)]
    computed = {
        rank: _computed([100 * at["data"] + 10_000 * at["tensor"] * own + n for n in range(10)])
        for rank, at in enumerate(where)
    }
    assert _judged("layout", _made(computed=computed)).verdict == verdict


def _dead(name: str, **changes: object) -> CaseRun:
    made = case_run()
    oracle = tuple(step | {name: np.zeros_like(step[name])} for step in made.reference.oracle)
    return replace(made, reference=replace(made.reference, oracle=oracle), contract=specimen.contract(**changes))


def test_a_gradient_that_is_zero_everywhere_shows_nothing() -> None:
    result = _judged("census", _dead("gradients/b"))
    assert result.detail == "'gradients/b' of the reference is zero everywhere: nothing can be shown by it."
    assert _judged("census", _dead("gradients/b", still=("gradients/b",))).verdict == "pass"
    alive = replace(case_run(), contract=specimen.contract(still=("gradients/b",)))
    assert "but it is not so" in _judged("census", alive).detail


def test_a_loss_that_no_batch_moves_shows_nothing() -> None:
    made = case_run()
    unmoved = replace(made, reference=replace(made.reference, unmoved=("loss",)))
    assert _judged("census", unmoved).verdict == "fail"
    assert _judged("census", replace(unmoved, contract=specimen.contract(still=("loss",)))).verdict == "pass"
