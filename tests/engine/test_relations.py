"""Every relation passes a program that keeps it, and catches the fault that it exists for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from conformance.cases.case import Case
from conformance.cases.resolve import Target
from conformance.checks import CHECKS
from conformance.checks.relations import Relations
from conformance.cli.explain import Explanation, lines
from conformance.contract.mesh import Mesh
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Block, ExtraRun, Observed
from conformance.records.results import CheckResult
from conformance.relations import RELATIONS
from conformance.relations.batch_permutation import permutation
from conformance.relations.causal_leak import cuts, cuts_of_rows
from conformance.relations.layouts import other_layouts
from conformance.relations.whole import one_axis
from conformance.runner.run import CaseRunner
from conformance.workers.jobs import CaseJob, ReferenceJob
from conformance.workers.pool import Workers
from tests.engine import lawful

HERE = Path(__file__).resolve().parent
MESHES = {"jax": "data=2,tensor=2", "torch": "data=2"}
CONTRACTS = {"jax": lawful.CONTRACT, "torch": lawful.WITHOUT_DROPOUT}
NAMES = {"jax": "CONTRACT", "torch": "WITHOUT_DROPOUT"}
SECOND = {"jax": lawful.NARROW, "torch": lawful.NARROW_WITHOUT_DROPOUT}
SECOND_NAMES = {"jax": "NARROW", "torch": "NARROW_WITHOUT_DROPOUT"}

# relation, framework, fault -> what its sentence must say
FAULTS = [
    ("mesh permutation", "jax", "RowsByDeviceNumber", "reversed devices"),
    ("mesh permutation", "torch", "PlaceInGroup", "reversed devices"),
    ("batch permutation", "jax", "LastRowLost", "is off by"),
    ("causal leak", "jax", "SeesLater", "which comes before"),
    ("causal leak", "jax", "SeesOnlyTheFirst", "it does not see them"),
    ("masked batch", "jax", "NothingByNothing", "not finite"),
    ("masked batch", "jax", "PenaltyAlways", "not zero"),
    ("recompute", "jax", "OtherMaskAgain", "is off by"),
    ("accumulation", "jax", "MeanOfMeans", "is off by"),
    ("second model", "jax", "SizeOfTheLast", "an object made before one of"),
    ("second model", "jax", "SizeOfTheFirst", "is off by"),
    ("second model", "torch", "SizeOfTheLast", "an object made before one of"),
    ("second model", "torch", "SizeOfTheFirst", "is off by"),
    ("checkpoint", "jax", "MomentumForgotten", "have other bits"),
    ("checkpoint", "jax", "SavedInFloat32", "have other bits"),
    ("checkpoint", "jax", "OwnMeshOnly", "it must load on 3"),
    ("checkpoint", "jax", "ColumnsByRank", "have other bits"),
    ("checkpoint", "torch", "MomentumForgotten", "have other bits"),
    ("damaged checkpoint", "jax", "NoDigests", "Silently wrong"),
    ("damaged checkpoint", "jax", "ZerosForMissing", "Silently wrong"),
    ("damaged checkpoint", "jax", "RefusesAll", "an undamaged copy"),
    ("damaged checkpoint", "torch", "OneRankChecks", "others refuse"),
    ("initial values", "jax", "KeyPerShape", "have other bits"),
    ("initial values", "jax", "SameKeyOnShards", "from the same key"),
    ("initial values", "jax", "SeedIgnored", "from another seed"),
    ("initial values", "jax", "TwiceAsLarge", "deviate by"),
    ("initial values", "torch", "RankInDraw", "differs between rank 0 and rank 1"),
    ("dropout masks", "jax", "DrawnAfterTheSplit", "which hold different shards"),
    ("dropout masks", "jax", "SameMaskForAllRows", "the same in rows"),
    ("dropout masks", "jax", "SameMaskForAllSteps", "the same mask"),
    ("dropout masks", "jax", "HalfTheRate", "asks for 0.75"),
]


@pytest.fixture(scope="module")
def examined() -> Iterator[Callable[..., CaseRun]]:
    """(framework, program, relations, fault) -> what the case left behind."""
    with Workers(jax_devices=4) as workers:

        @cache
        def reference(framework: str, contract: str):
            job = ReferenceJob(contract=contract, framework=framework, dtype="float64", seed=0)
            outcome = workers.run(job, 120)
            assert outcome.reference is not None, outcome.reason
            return outcome.reference

        def examine(framework: str, program: str, relations: tuple[str, ...], fault: str | None = None) -> CaseRun:
            if find_spec(framework) is None:
                pytest.skip(f"{framework} is not installed")
            where = f"{HERE / f'lawful_{framework}.py'}"
            second = f"{HERE / 'lawful.py'}:{SECOND_NAMES[framework]}"
            case = Case(
                contract=_contract(framework),
                implementation=f"{where}:{program}",
                mesh=Mesh.parse(MESHES[framework]),
                dtype="float64",
                fault=fault,
            )
            job = CaseJob(
                case=case,
                framework=framework,
                target=case.implementation,
                fault=f"{HERE / f'lawless_{framework}.py'}:{fault}" if fault else None,
                determinism=False,
                input_sensitivity=False,
                trace=False,
                relations=relations,
                others=((second, case.implementation),),
            )
            outcome = workers.run(job, 240)
            assert outcome.evidence is not None, outcome.reason
            asked, other = replace(CONTRACTS[framework], relations=relations), SECOND[framework]
            others = {other.name: (other, reference(framework, second))} if "second model" in relations else {}
            known = reference(framework, case.contract)
            return CaseRun(case=case, contract=asked, evidence=outcome.evidence, reference=known, others=others)

        yield examine


def _contract(framework: str) -> str:
    return f"{HERE / 'lawful.py'}:{NAMES[framework]}"


def _judged(case_run: CaseRun) -> CheckResult:
    assert Relations().applies(case_run)
    return Relations().judge(case_run)


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_a_lawful_program_keeps_every_law(framework: str, examined: Callable[..., CaseRun]) -> None:
    case_run = examined(framework, "Lawful", CONTRACTS[framework].relations)
    result = _judged(case_run)
    assert (result.verdict, result.detail) == ("pass", "")
    for relation in case_run.contract.relations:
        findings = list(RELATIONS[relation].judge(case_run, case_run.evidence.related[relation]))
        assert findings, relation
        assert [sentence for _, sentence in findings if sentence] == [], relation
    assert case_run.evidence.seconds["relations"] > 0


@pytest.mark.parametrize(
    ("relation", "framework", "fault", "said"), FAULTS, ids=[f"{row[1]} {row[2]}" for row in FAULTS]
)
def test_a_law_catches_its_fault(
    relation: str, framework: str, fault: str, said: str, examined: Callable[..., CaseRun]
) -> None:
    case_run = examined(framework, "Lawful", (relation,), fault)
    result = _judged(case_run)
    findings = [
        sentence for _, sentence in RELATIONS[relation].judge(case_run, case_run.evidence.related[relation]) if sentence
    ]
    assert result.verdict == "fail"
    assert any(said in sentence for sentence in findings), findings[:3]
    assert all(sentence.endswith(".") for sentence in findings)


def test_every_law_has_a_fault() -> None:
    assert {relation for relation, *_ in FAULTS} == set(RELATIONS)


def test_what_is_declined_is_said_and_not_counted(examined: Callable[..., CaseRun]) -> None:
    relations = ("masked batch", "checkpoint", "initial values")
    result = _judged(examined("jax", "SavesNothing", relations))
    assert result.verdict == "pass"
    assert "checkpoint (This program writes no checkpoints)" in result.detail
    unsupported_relations = _judged(examined("jax", "SavesNothing", ("damaged checkpoint",)))
    assert (unsupported_relations.verdict, unsupported_relations.compared) == ("unsupported", 0)


def test_a_law_without_trials_or_without_a_name_fails(examined: Callable[..., CaseRun]) -> None:
    case_run = examined("jax", "Lawful", ("masked batch",))
    nothing = replace(case_run, evidence=replace(case_run.evidence, related={"masked batch": ()}))
    assert "had nothing to compare" in _judged(nothing).detail
    assert not _judged(nothing).diagnosis  # which is no word on what the relation says
    unknown = replace(case_run, contract=replace(case_run.contract, relations=("masked batch", "gravity")))
    assert "'gravity'" in _judged(unknown).detail


class _Deaf(Workers):
    """Workers that only listen."""

    def __init__(self) -> None:
        self.heard: list[CaseJob] = []


@pytest.mark.parametrize(
    ("change", "asked"), [({}, True), ({"dtype": "float32"}, False), ({"seed": 1}, False), ({"fault": "any"}, True)]
)
def test_laws_are_asked_for_once_per_program(change: dict, asked: bool) -> None:
    case = Case(contract="lawful/dropout", implementation="x", mesh=Mesh.parse("data=2"), dtype="float64")
    target = Target(contract=lawful.CONTRACT, framework="jax", path="x:y")
    job = CaseRunner(workers=_Deaf())._job(replace(case, **change), target, decisions=(), checks=CHECKS)
    assert job.relations == (lawful.CONTRACT.relations if asked else ())


def test_an_explanation_lists_the_laws_of_a_contract() -> None:
    case = Case(contract="lawful/dropout", implementation="x", mesh=Mesh.parse("data=2"), dtype="float64")
    check = (Relations.name, Relations.rule)
    explanation = Explanation(
        case=case, contract=lawful.CONTRACT, checks=(), perhaps=(check,), fault=None, last=None, where=None
    )
    page = "\n".join(lines(explanation))
    assert all(f"\n  {relation}: " in page for relation in RELATIONS)


@pytest.mark.parametrize(
    ("wrong", "axis"), [((1, 3), "tensor"), ((2, 3), "data"), ((3,), None), ((0, 1, 2, 3), None), ((), None)]
)
def test_the_axis_of_what_was_not_saved_is_the_one_with_right_and_wrong_positions(
    wrong: tuple[int, ...], axis: str | None
) -> None:
    saved, loaded = _held(()), _held(wrong)
    assert one_axis(saved, loaded) == axis


def _held(zeros: tuple[int, ...]) -> ExtraRun:
    """Four ranks, each with an element of its own, some of which are zeros."""
    blocks = tuple(
        Block(ranks=(rank,), index=(slice(rank, rank + 1),), value=np.array([float(rank not in zeros)]))
        for rank in range(4)
    )
    held = {"parameters/w": Observed(shape=(4,), dtype="float64", blocks=blocks)}
    return ExtraRun(label="held", mesh=Mesh.parse("data=2,tensor=2"), observations=held)


def test_a_permutation_leaves_nothing_where_it_was() -> None:
    for rows in (3, 8, 24):
        order = permutation(rows)
        assert sorted(order) == list(range(rows))
        assert (order != np.arange(rows)).all()
        assert (order[order] != np.arange(rows)).any()


def test_cuts_lie_on_both_sides_of_shard_boundaries() -> None:
    assert set(cuts(16, Mesh.parse("sequence=4"))) >= {1, 3, 4, 5, 8, 15}
    assert all(0 < cut < 7 for cut in cuts(7, Mesh.parse("sequence=2")))


@pytest.mark.parametrize("rows", [1, 2, 5, 12, 24])
@pytest.mark.parametrize("text", ["sequence=2", "sequence=4", "data=2"])
def test_every_cut_is_tried_in_some_row(rows: int, text: str) -> None:
    mesh = Mesh.parse(text)
    tried, wanted = cuts_of_rows((rows, 16), mesh), set(cuts(16, mesh))
    assert set(np.concatenate(list(tried.values())).tolist()) == wanted
    assert all(len(cut_R) == rows for cut_R in tried.values())
    assert len(tried) <= (3 if rows >= len(wanted) else len(wanted))


@pytest.mark.parametrize("text", ["data=2", "data=2,tensor=2", "tensor=8@reversed", "data=2,fsdp=3"])
def test_other_layouts_really_are_others(text: str) -> None:
    mesh = Mesh.parse(text)
    others = list(other_layouts(mesh))
    assert len(others) >= 3
    assert all(other.devices == mesh.devices and set(other.axes) >= set(mesh.axes) for other in others)
    layouts = {(tuple(size for size in layout.sizes if size[1] > 1), layout.device_order) for layout in (mesh, *others)}
    assert len(layouts) == len(others) + 1
    assert next(other_layouts(mesh, allows_smaller_mesh=True)).devices == 1
