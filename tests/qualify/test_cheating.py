"""Every way to cheat with a package is refused with its reason; the untouched package holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from conformance.cases.selection import parse_case
from conformance.qualify.derived import files
from conformance.qualify.must_pass import may_decline
from conformance.qualify.package import Contents
from conformance.qualify.rejudge import _ratio, _ratios, lost_tensors
from conformance.qualify.statement import reservations, statement
from conformance.qualify.verify import verify
from conformance.records.check_record import CheckRecord, FigureRecord, WorstRecord
from conformance.records.records import CaseRecord
from tests.qualify.conftest import CLAIM, DAY, KEY, Forger

Edit = Callable[[Contents], Contents]


def of_run(**fields: Any) -> Edit:
    """The run and its only part say something else."""

    def edit(contents: Contents) -> Contents:
        parts = tuple(part.model_copy(update=_known(part, fields)) for part in contents.run.parts)
        return replace(contents, run=contents.run.model_copy(update={**fields, "parts": parts}))

    return edit


def _known(part: Any, fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in type(part).model_fields}


def of_first(change: Callable[[CaseRecord], CaseRecord]) -> Edit:
    return lambda contents: replace(contents, records=(change(contents.records[0]), *contents.records[1:]))


def of_check(name: str, change: Callable[[CheckRecord], CheckRecord | None]) -> Edit:
    """Another check in the first record, or none."""

    def changed(record: CaseRecord) -> CaseRecord:
        checks = [change(check) if check.check == name else check for check in record.checks]
        return record.model_copy(update={"checks": tuple(filter(None, checks))})

    return of_first(changed)


def saying(**fields: Any) -> Callable[[Any], Any]:
    return lambda record: record.model_copy(update=fields)


def last_figure(**fields: Any) -> Callable[[CheckRecord], CheckRecord]:
    return lambda check: check.model_copy(
        update={"figures": (*check.figures[:-1], check.figures[-1].model_copy(update=fields))}
    )


def remade(fields: Callable[[FigureRecord], dict[str, float]]) -> Callable[[CheckRecord], CheckRecord]:
    """Other figures, and all that is said of them together made to follow."""

    def change(check: CheckRecord) -> CheckRecord:
        figures = tuple(figure.model_copy(update=fields(figure)) for figure in check.figures)
        worst, allowed = max(figures, key=_ratio), check.allowed or 0.0
        said = WorstRecord(tensor=worst.tensor, error=worst.error, bound=allowed * worst.yardstick)
        return check.model_copy(update={"figures": figures, "worst": said, "ratios": _ratios(figures, allowed)})

    return change


def one_block_each(check: CheckRecord) -> CheckRecord:
    figures = tuple(figure.model_copy(update={"blocks": 1}) for figure in check.figures)
    return check.model_copy(update={"figures": figures, "compared": len(figures)})


def without(tensor: str) -> Callable[[CheckRecord], CheckRecord]:
    """A tensor is dropped so that the sums still fit."""

    def change(check: CheckRecord) -> CheckRecord:
        kept = tuple(figure for figure in check.figures if not figure.tensor.startswith(tensor))
        compared = sum(figure.blocks for figure in kept)
        assert 0 < compared < check.compared
        return check.model_copy(update={"figures": kept, "compared": compared})

    return change


def renamed_real(record: CaseRecord) -> CaseRecord:
    return record.model_copy(update={"case": record.case.replace("]", "-real]"), "devices": "real"})


def all_renamed(contents: Contents) -> Contents:
    return replace(contents, records=tuple(map(renamed_real, contents.records)))


def run_renamed_too(contents: Contents) -> Contents:
    """The records, the run and what it was asked for; the devices that the framework saw are forgotten."""
    run, renamed = contents.run, all_renamed(contents)
    facts = {"selection": run.selection | {"devices": "real"}, "machine": run.machine | {"devices": "real"}}
    return of_run(**facts, devices="real", command=["shardproof", "qualify", "run"])(renamed)


CHEATS: dict[str, tuple[Edit, str]] = {
    "an error beyond the bound": (
        of_check("trajectory", last_figure(error=1.0)),
        "trajectory: its figures say fail, the record says pass.",
    ),
    "an error made smaller": (of_check("trajectory", saying(worst=None)), "the record says none."),
    "an error below zero": (
        of_check("trajectory", remade(lambda figure: {"error": -abs(figure.error) - 5})),
        "no error, bound or yardstick is below zero.",
    ),
    "a yardstick below zero": (
        of_check("logic", remade(lambda figure: {"error": -1.0, "yardstick": -1.0})),
        "no error, bound or yardstick is below zero.",
    ),
    "a bound of one's own": (of_check("logic", saying(allowed=100.0)), "it allows 100.0 times the yardstick"),
    "a tensor left out": (
        of_check("trajectory", without("step 3: updates/operand")),
        "no figure of step 3: updates/operand.",
    ),
    "a failed comparison that is no failure": (of_check("census", saying(failed=2)), "census: its figures say fail"),
    "a check that compared nothing": (of_check("replicas", saying(compared=0)), "replicas: its figures say fail"),
    "a check left out": (of_check("determinism", lambda check: None), "the check determinism is missing."),
    "a check of one's own": (of_check("census", saying(check="vibes")), "the suite has no check vibes."),
    "a check that declines what it cannot": (
        of_check("replicas", saying(verdict="unsupported", compared=0, not_held="No.")),
        "replicas: its figures say fail, the record says unsupported.",
    ),
    "a check that every program holds, declined": (
        of_check("layout", saying(verdict="unsupported", compared=0, not_held="No.")),
        "layout: its figures say fail, the record says unsupported.",
    ),
    "communication declined by a program that says what it sends": (
        of_check("communication", saying(verdict="unsupported", compared=0, not_held="No.")),
        "communication: its figures say fail, the record says unsupported.",
    ),
    "one row block each": (of_check("trajectory", one_block_each), "row blocks, the record says 1."),
    "a verdict alone": (of_first(saying(verdict="fail")), "its figures say pass, the record says fail."),
    "infinity as a word": (of_check("census", saying(ratios={"x": float("inf")})), "it passes with inf"),
    "NaN as a word": (of_check("logic", last_figure(error=float("nan"))), "it passes with nan"),
    "a dropped case": (lambda contents: replace(contents, records=contents.records[1:]), "] is missing."),
    "a case twice": (
        lambda contents: replace(contents, records=(*contents.records, contents.records[0])),
        "] is in it twice.",
    ),
    "a case of another list": (
        of_first(lambda record: record.model_copy(update={"case": "tensor/mlp[jax-shard_map-tensor2-float64]"})),
        "tensor/mlp[jax-shard_map-tensor2-float64] is not on the must-pass list.",
    ),
    "another case under a name of the list": (of_first(saying(dtype="float32")), "of itself is another case."),
    "an old seed": (
        of_first(lambda record: record.model_copy(update={"case": record.case.replace("]", "-seed7]"), "seed": 7})),
        "seed 7 is not of this version's set, 202611, 611202.",
    ),
    "an expected failure": (of_first(saying(expected="fail", verdict="fail")), "of itself is another case."),
    "another version": (of_run(version="0.0.9"), "judged by version 0.0.9"),
    "changed code": (of_run(hash="0" * 64), "code 00000000"),
    "one check alone": (of_run(checks=["census"]), "It was judged by census only."),
    "an easier dtype": (
        lambda contents: of_run(selection=contents.run.selection | {"dtype": "float32"})(contents),
        "The option dtype = 'float32' is not allowed in a qualification.",
    ),
    "an easier profile": (
        lambda contents: of_run(selection=contents.run.selection | {"profile": "core"}, profile="core")(contents),
        "The profile core is no must-pass list.",
    ),
    "a flag of the compiler": (of_run(flags={"XLA_FLAGS": "--xla_fast"}), "XLA_FLAGS = '--xla_fast' changes what"),
    "a program of one's own": (of_run(files={"mine.py": "0" * 64}), "It ran a program of its own, mine.py"),
    "a run that did not end": (of_run(finished=None), "The run did not end."),
    "two machines": (
        lambda contents: replace(
            contents,
            run=contents.run.model_copy(
                update={"parts": (*contents.run.parts, contents.run.parts[0].model_copy(update={"machine": {}}))}
            ),
        ),
        "This is a mixed run",
    ),
    "emulated devices renamed real": (of_first(renamed_real), "is not on the must-pass list."),
    "all of them renamed real": (all_renamed, "was run on real devices, the run says emulated."),
    "the run renamed too": (run_renamed_too, "real devices, jax saw 1."),
    "waived without a waiver": (of_first(saying(verdict="waived", waived="crash")), "is waived without a waiver."),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_in_the_records_is_refused(forger: Forger, cheat: str) -> None:
    edit, said = CHEATS[cheat]
    assert said in forger.refusal(edit(forger.contents))


def test_a_tensor_that_another_case_of_the_contract_shows_is_missed(forger: Forger) -> None:
    contents = forger.contents
    first = contents.records[0]
    twin = first.model_copy(update={"case": "its twin"})
    assert list(lost_tensors((first, twin))) == []
    less = of_check("logic", without("step 1: outputs/y"))(replace(contents, records=(twin,))).records[0]
    assert list(lost_tensors((first, less))) == ["its twin: no figure of step 1: outputs/y."]


def test_the_cpu_under_the_name_of_real_devices_qualifies_nothing(forger: Forger) -> None:
    """No arithmetic tells where figures come from, so what stands in for a chip is said, whatever else fits."""
    run = forger.contents.run
    eight = [{"framework": "jax", "platform": "cpu", "kind": "cpu", "count": 8}]
    facts = {
        "selection": run.selection | {"devices": "real"},
        "machine": run.machine | {"devices": "real", "accelerators": eight},
        "flags": {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    }
    renamed = of_run(**facts, devices="real", command=["shardproof", "qualify", "run"])(all_renamed(forger.contents))
    contents = verify(forger.written(files(renamed)), key=KEY, day=DAY)
    assert "The platform is the CPU of the host, which stands in for a chip." in list(reservations(contents))
    assert statement(contents)["qualifies"] is False


def test_a_chip_that_ran_the_whole_list_qualifies(forger: Forger) -> None:
    """What is made up here is the chip and the profile; the statement is what it would be."""
    run = forger.contents.run
    chips = [{"framework": "jax", "platform": "acme", "kind": "X1", "count": 8}]
    machine = run.machine | {"accelerators": chips, "tree": ""}
    made = replace(all_renamed(forger.contents), run=run.model_copy(
        update={"devices": "real", "profile": "qualification", "machine": machine}))  # fmt: skip
    assert statement(made)["qualifies"] is True
    assert "This qualifies no hardware" not in statement(made)["says"]


def test_what_is_declined_is_counted_and_said(forger: Forger) -> None:
    decline = of_check("communication", saying(verdict="unsupported", compared=0, not_held="No."))
    said = statement(decline(forger.contents))
    assert said["not_held"]["communication"] == 1
    assert "Not held, or in part: communication in 1 case" in said["says"]


@pytest.mark.parametrize(
    ("case", "may"),
    [
        ("pipeline/perceptron[torch-pipelining-gpipe-pipeline2-float64]", True),
        ("pipeline/perceptron[torch-gpipe-pipeline2-float64]", False),
        ("tensor/mlp[jax-explicit-tensor2-float64]", False),
        ("tensor/mlp[jax-explicit-tensor2-float64-real]", True),
    ],
)
def test_only_programs_that_do_not_say_what_they_send_may_decline(case: str, may: bool) -> None:
    assert may_decline(parse_case(case)) == ({"communication"} if may else set())


def test_what_is_untouched_holds(forger: Forger) -> None:
    assert verify(forger.written(forger.files), key=KEY, day=DAY).claim == CLAIM
    assert forger.written(forger.files).read_bytes() == forger.path.read_bytes()
