"""A planner: units that are refused, spaces that are whole, and plans that never exceed what they may."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.cases.plan_file import Evidence, PlanFile, proofs, read_plan
from conformance.cases.plannable import Layout
from conformance.cases.plans import plan_named
from conformance.cases.resolve import resolve
from conformance.cases.selection import parse_case
from conformance.cases.usage import UsageError
from conformance.contract.mesh import Mesh
from conformance.planner.asking import Asked, question
from conformance.planner.estimate import Estimate
from conformance.planner.evidence import Tried, plan_file
from conformance.planner.explanation import runners_up, words
from conformance.planner.question import Question
from conformance.planner.remedies import remedies
from conformance.planner.search import Search, is_modelled, search
from conformance.planner.space import factorisations, meshes, space
from suites.planning.plans import scale_plan

SMALL = Asked(model="1.3B", devices=8, memory="80GiB", rows=64)


class Compiler:
    """Says that a program needs so many times the temporaries that were predicted."""

    def __init__(self, *factors: float) -> None:
        self.factors, self.asked = list(factors), list[Estimate]()

    def __call__(self, asked: Question, estimate: Estimate) -> Tried:
        factor = self.factors[min(len(self.asked), len(self.factors) - 1)]
        self.asked.append(estimate)
        predicted = estimate.footprint
        temporaries = round(predicted.temporary_bytes * factor)
        needed = predicted.held_bytes + temporaries
        evidence = Evidence(
            level="target", parameter_bytes=predicted.parameter_bytes, optimizer_bytes=predicted.optimizer_bytes,
            temporary_bytes=temporaries, needed_bytes=needed, fits=needed <= asked.usable_bytes, compute_seconds=1.0,
            communication_seconds={}, communication_bytes={}, largest_all_reduce=0, findings=(),
        )  # fmt: skip
        return Tried(
            estimate=estimate, evidence=evidence, why="" if needed <= asked.usable_bytes else "too large", miss=factor
        )


def found(asked: Asked, *factors: float) -> tuple[Search, Compiler]:
    compiler = Compiler(*factors or (1.0,))
    return search(question(asked), compiler, lambda sentence: None), compiler


@pytest.fixture(autouse=True)
def with_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the chip could be compiled for."""
    monkeypatch.setattr("conformance.planner.search.why_no_target", lambda chip, devices: "")


@pytest.mark.parametrize("number", [1, 7, 12, 64, 60])
def test_factorisations_are_all_and_each_once(number: int) -> None:
    every = list(factorisations(number, 3))
    brute = [(a, b, c) for a in range(1, number + 1) for b in range(1, number + 1) for c in range(1, number + 1)]
    assert sorted(every) == sorted(triple for triple in brute if math.prod(triple) == number)


def test_every_mesh_has_all_devices() -> None:
    assert all(mesh.devices == 24 for mesh in meshes(24, ("data", "fsdp", "tensor")))


def test_what_is_predicted_to_fit_is_ranked_and_the_best_is_compiled() -> None:
    result, compiler = found(SMALL)
    assert result.chosen is not None
    assert compiler.asked == [result.chosen.estimate]
    costs = [each.step_seconds for each in result.fitting]
    assert costs[0] <= 1.001 * min(costs)
    assert all(each.footprint.needed_bytes <= result.question.usable_bytes for each in result.fitting)


def test_a_plan_that_does_not_fit_is_never_returned() -> None:
    result, compiler = found(SMALL, 1e4)
    assert result.chosen is None
    assert 1 <= len(compiler.asked) <= 8


def test_after_a_miss_the_others_are_expected_to_need_more() -> None:
    plain, _ = found(SMALL)
    result, compiler = found(SMALL, 1.6, 1.0)
    assert len(compiler.asked) == 2
    assert result.chosen is not None
    second = result.chosen.estimate.footprint
    assert second.held_bytes + 1.6 * second.temporary_bytes <= result.question.usable_bytes
    assert plain.chosen is not None
    assert result.chosen.estimate.step_seconds >= plain.chosen.estimate.step_seconds


@pytest.mark.parametrize("objective", ["memory", "latency"])
def test_other_objectives_are_no_worse_at_what_they_ask_for(objective: str) -> None:
    usual, _ = found(SMALL)
    asked, _ = found(replace(SMALL, objective=objective))
    assert usual.chosen is not None
    assert asked.chosen is not None
    cost = asked.question.objective
    assert asked.chosen.estimate.cost(cost) <= 1.001 * usual.chosen.estimate.cost(cost)


def test_the_largest_all_reduce_is_kept() -> None:
    limited, _ = found(replace(SMALL, max_all_reduce="1MiB"))
    assert all(each.largest_all_reduce <= 2**20 for each in limited.fitting)
    assert limited.fitting
    unlimited, _ = found(SMALL)
    assert any(each.largest_all_reduce > 2**20 for each in unlimited.fitting)


def test_stages_without_a_program_are_ranked_beside_the_answer_and_never_returned() -> None:
    result, compiler = found(SMALL)
    assert result.modelled
    assert all(each.layout.mesh.size("pipeline") > 1 for each in result.modelled)
    assert all(each.layout.schedule == "interleaved" or each.layout.recompute != "layer" for each in result.modelled)
    assert not any(is_modelled(result.question, each.layout) for each in (*result.fitting, *compiler.asked))
    [sentence] = [line for line in words(result) if "known by formula alone" in line]
    assert str(result.modelled[0].layout) in sentence


def test_stages_that_have_programs_are_compiled_and_returned(tmp_path: Path) -> None:
    result, compiler = found(replace(SMALL, search=("pipeline",)))
    assert result.chosen is not None
    layout = result.chosen.estimate.layout
    assert compiler.asked[-1].layout == layout
    assert (layout.mesh.size("pipeline"), layout.recompute) == (8, "layer")
    path = tmp_path / "staged.json"
    kept = plan_file(result.question, result.chosen.estimate, result.chosen.evidence)
    path.write_text(kept.model_dump_json(), encoding="utf-8")
    assert read_plan(path).layout == layout
    plan = plan_named(str(path))
    assert plan.contract.recipe.microbatches == layout.microbatches
    assert parse_case(plan.proof).mesh.size("pipeline") == 2
    assert "stages wait for each other" in next(iter(words(result)))


@pytest.mark.parametrize("recompute", ["none", "attention", "layer"])
@pytest.mark.parametrize("model", ["760M", "8x7B"])
def test_what_is_proven_small_computes_again_what_the_plan_does(model: str, recompute: str) -> None:
    asked = question(Asked(model=model, devices=4, rows=16, length=256))
    layout = Layout(mesh=Mesh.parse("fsdp=2,tensor=2"), microbatches=1, recompute=recompute)
    case = parse_case(scale_plan("proven", asked.training, layout).proof)
    assert resolve(case).contract.recipe.recompute == recompute


@pytest.mark.parametrize("devices", [6, 7, 15])
def test_devices_that_no_power_of_two_divides(devices: int) -> None:
    result, _ = found(replace(SMALL, devices=devices, rows=None, length=420))
    assert result.chosen is not None
    assert result.chosen.estimate.layout.mesh.devices == devices
    assert {axis for each in result.fitting for axis in each.layout.mesh.axes} >= {"data", "fsdp", "sequence"}


def test_a_mixture_has_an_axis_of_its_own() -> None:
    result, _ = found(Asked(model="8x7B", devices=16, memory="80GiB", rows=64, length=2048))
    assert result.question.family.name == "mixture"
    assert any(each.layout.mesh.size("expert") > 1 for each in result.fitting)
    assert all(each.layout.mesh.size("expert") in (1, 2, 4, 8) for each in result.fitting)
    assert any("expert" in each.communication_bytes for each in result.fitting)
    assert any(line.startswith("Not searched: pipeline") for line in words(result))


def test_a_named_plan_of_a_mixture_is_one() -> None:
    assert question(Asked(model="671b-mixture", devices=2048)).training.family == "mixture"
    assert question(Asked(model="405b", devices=512)).training.family == "decoder"


def test_why_each_runner_up_lost() -> None:
    result, _ = found(SMALL)
    others = runners_up(result)
    assert len(others) >= 4
    assert len({str(other.estimate.layout.mesh) for other in others}) == len(others)
    assert all(other.why for other in others)
    assert any("slower" in other.why for other in others)


def test_where_nothing_fits_what_would_is_compiled() -> None:
    asked = replace(SMALL, model="7B", devices=8, memory="6GB")
    result, compiler = found(asked)
    assert result.chosen is None
    assert "Nothing fits" in next(iter(words(result)))
    helps = list(remedies(result, compiler, lambda sentence: None))
    assert len(helps) >= 2
    assert all(remedy.search.chosen is not None for remedy in helps)
    assert any(remedy.search.question.devices > 8 for remedy in helps)
    assert any(remedy.search.question.chip.memory_bytes > 6 * 10**9 for remedy in helps)


NEAR = Asked(model="7B", devices=8, memory="13.5GiB", parameters="bfloat16", search=("tensor",))


def test_what_is_predicted_not_to_fit_by_little_is_compiled() -> None:
    result, compiler = found(NEAR, 0.8)
    assert result.fitting == ()
    assert result.chosen is not None
    assert result.chosen.estimate.footprint.needed_bytes > result.question.usable_bytes
    assert len(compiler.asked) == 1
    assert any("It was predicted to need 12.6 GiB, which is more" in line for line in words(result))
    assert all(other.estimate.layout.mesh != result.chosen.estimate.layout.mesh for other in runners_up(result))


def test_nothing_fits_once_the_compiler_says_so_too() -> None:
    result, compiler = found(NEAR, 1.0)
    assert result.chosen is None
    assert [each.estimate for each in result.tried] == compiler.asked
    first, second, *_ = words(result)
    assert first.startswith("Nothing fits")
    assert second == f"{compiler.asked[0].layout}: too large."


def test_what_is_far_from_fitting_is_not_compiled() -> None:
    _, compiler = found(replace(NEAR, memory="10GiB"), 0.1)
    assert compiler.asked == []


def test_what_no_compiler_would_tell_is_not_near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled for this chip, so that the prediction is the last word."""
    monkeypatch.setattr("conformance.planner.search.why_no_target", lambda chip, devices: "there is no table")
    result, compiler = found(NEAR, 0.1)
    assert (result.chosen, compiler.asked) == (None, [])


def test_where_every_prediction_misses_it_says_so() -> None:
    result, _ = found(replace(SMALL, search=("fsdp",)), 1e4)
    first, second, *_ = words(result)
    assert first.startswith("Nothing fits: of ")
    assert second.startswith("fsdp=8")


def test_a_plan_file_gives_the_same_plan(tmp_path: Path) -> None:
    result, _ = found(SMALL)
    assert result.chosen is not None
    path = tmp_path / "mine.json"
    kept = plan_file(result.question, result.chosen.estimate, result.chosen.evidence)
    path.write_text(kept.model_dump_json(), encoding="utf-8")
    assert read_plan(path) == kept
    plan = plan_named(str(path))
    assert plan.name == "mine"
    assert plan.mesh == str(result.chosen.estimate.layout.mesh)
    assert plan.contract.recipe.accumulation == kept.microbatches
    assert sum(map(math.prod, plan.contract.shapes.values())) == kept.parameters
    assert proofs(["tensor", str(path)]) == (["tensor"], [kept.proof])
    assert parse_case(kept.proof).mesh.devices <= 8


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mesh": "tensor=0"}, "size"),
        ({"model": {"kind": "language_model", "wings": 2}}, "wings"),
        ({"family": "birds"}, "birds"),
        ({"rows": 0}, "rows"),
        ({"surprise": 1}, "surprise"),
        ({"mesh": "fsdp=16"}, "the mesh fsdp=16 has 16 devices and the plan is for 8"),
        ({"mesh": "wings=8"}, "wings"),
        ({"recompute": "nothing"}, "nothing"),
        ({"rows": 63}, "63 rows do not divide"),
        ({"proof": "tensor/mlp[jax-shard_map-tensor2-float64]"}, "is proven by hybrid/scanned"),
        ({"parameters": 7}, "and the plan speaks of 7"),
        ({"objective": "latency"}, "its digest is not that of the rest"),
    ],
)
def test_a_damaged_plan_file_is_one_sentence(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    result, _ = found(SMALL)
    assert result.chosen is not None
    written = plan_file(result.question, result.chosen.estimate).model_dump(mode="json") | change
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(written), encoding="utf-8")
    with pytest.raises(Exception, match=sentence) as raised:
        plan_named(str(path))
    assert getattr(raised.value, "status", None) == 2


def test_a_plan_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("no", encoding="utf-8")
    for name in ("absent.json", "text.json"):
        with pytest.raises(UsageError):
            read_plan(tmp_path / name)


def test_a_file_keeps_every_field_that_it_needs() -> None:
    assert {"mesh", "microbatches", "recompute", "rows", "length", "model"} <= set(PlanFile.model_fields)


def test_the_space_says_why_layouts_are_refused() -> None:
    spread = space(question(Asked(model="1.3B", devices=12, memory="80GiB")))
    assert spread.refused
    assert spread.size == len(spread.layouts) + spread.refused.total()
