"""list, explain and doctor: what they say, in words and in JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from people_records import case, failing, passing, write

from conformance.cases.suite import PROFILES, suites
from conformance.checks import CHECKS
from conformance.cli import doctor, interface
from conformance.cli.doctor import Finding


@pytest.mark.parametrize("what", ["suites", "contracts", "implementations", "meshes", "faults", "cases"])
def test_lists_say_the_same_in_lines_and_in_json(shardproof, what: str) -> None:
    lines = shardproof("list", what).stdout.splitlines()
    rows = [json.loads(line) for line in shardproof("list", what, "--json").stdout.splitlines()]
    if not rows:
        assert lines == [f"There are no {what}."]
        return
    assert len(lines) == len(rows) + 1
    for line, row in zip(lines[1:], rows, strict=True):
        assert line.startswith(str(next(iter(row.values()))))


def test_list_cases_has_every_standing_case_once(shardproof) -> None:
    rows = [json.loads(line) for line in shardproof("list", "cases", "--json").stdout.splitlines()]
    names = [row["case"] for row in rows]
    assert len(set(names)) == len(names)
    assert {standing.id for standing in suites()["tensor"].cases("full")} <= set(names)


@pytest.mark.parametrize("profile", [None, "smoke", "core"])
@pytest.mark.parametrize("contract", [None, "tensor/mlp"])
@pytest.mark.parametrize("suite", [None, "tensor"])
def test_list_cases_of_one_suite_profile_or_contract(shardproof, suite, profile, contract) -> None:
    given = {"--suite": suite, "--profile": profile, "--contract": contract}
    words = [word for name, value in given.items() if value is not None for word in (name, value)]
    rows = [json.loads(line) for line in shardproof("list", "cases", *words, "--json").stdout.splitlines()]
    wanted = {
        case.id
        for installed in suites().values()
        for name in ((profile,) if profile else PROFILES)
        for case in installed.cases(name)
        if suite in (None, installed.name) and contract in (None, case.contract)
    }
    assert {row["case"] for row in rows} == wanted
    assert len(rows) == len(wanted) > 0
    assert all(profile in (None, *row["profiles"]) for row in rows)


def test_explain_says_what_why_and_how(shardproof) -> None:
    done = shardproof("explain", case().id)
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    contract = suites()["tensor"].contract("tensor/mlp")
    assert contract.summary in text
    assert all(definition in text for definition in contract.semantics.values())
    for check in CHECKS:
        assert (" ".join(check.rule.split()) in text) == (check.name not in ("exact", "numerics"))
    assert "shardproof run --contract tensor/mlp --implementation jax-shard_map --mesh data=2,tensor=4" in text
    assert "none in ./shardproof-results" in text


def test_explain_a_refusal(shardproof) -> None:
    done = shardproof("explain", "tensor/attention_mha_fused[jax-shard_map-tensor3-float64]")
    text = " ".join(done.stdout.split())
    assert "must refuse this mesh" in text


def test_explain_finds_the_last_record(shardproof, here: Path) -> None:
    write(here / "shardproof-results" / "1", [passing(case())])
    write(here / "shardproof-results" / "2", [failing(case())])
    (here / "shardproof-results" / "3").mkdir()
    done = shardproof("explain", case().id)
    assert "fail, worst error/bound 4e5" in done.stdout
    assert "likely: reduction missing" in done.stdout
    told = json.loads(shardproof("explain", case().id, "--json").stdout)
    assert told["last"]["verdict"] == "fail"
    assert set(told["checks"]) == {"census", "logic", "layout", "memory", "communication"}
    assert "replicas" in told["perhaps"], "a run shows whether anything lies on two ranks"


def _doctored(monkeypatch: pytest.MonkeyPatch, **answers: dict) -> None:
    monkeypatch.setattr(doctor, "_probe", lambda framework: answers[framework])


def test_doctor_finds_a_good_machine(shardproof, monkeypatch) -> None:
    _doctored(monkeypatch, jax={"devices": ["cpu", "cpu"]}, torch={"devices": ["cpu"], "gloo": True})
    done = shardproof("doctor")
    assert done.exit_code == 0
    assert "up to 64 devices; this machine has 2 x cpu" in done.stdout
    assert "This machine can run shardproof." in done.stdout


def test_doctor_says_what_to_do_about_a_missing_framework(shardproof, monkeypatch) -> None:
    missing = {"wrong": "ModuleNotFoundError: No module named 'torch'"}
    _doctored(monkeypatch, jax={"devices": ["cpu"]}, torch=missing)
    done = shardproof("doctor", "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 0
    (torch,) = [finding for finding in told["findings"] if finding["what"] == "torch emulated"]
    assert torch["state"] == "missing"
    assert torch["advice"] == "pip install 'shardproof[torch]'"


def test_doctor_fails_where_nothing_can_run(shardproof, monkeypatch) -> None:
    _doctored(monkeypatch, jax={"wrong": "no jax"}, torch={"devices": ["cpu"], "gloo": False})
    done = shardproof("doctor")
    assert done.exit_code == 1
    assert "torch was built without gloo" in done.stdout


def test_doctor_needs_a_place_for_results() -> None:
    fine = [Finding(what=what, state="ok", detail="") for what in ("python", "jax emulated", "torch emulated")]
    assert doctor.can_run([*fine, Finding(what="results", state="ok", detail="")])
    assert not doctor.can_run([*fine, Finding(what="results", state="missing", detail="")])


def test_a_probe_that_fails_tells_its_last_line(monkeypatch) -> None:
    monkeypatch.setitem(doctor.PROBES, "jax", "raise RuntimeError('no device')")
    assert doctor._probe("jax") == {"wrong": "RuntimeError: no device"}


def test_a_contract_says_its_interface(shardproof, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = suites()["moe"].contract("moe/dropless")
    shown = interface.Interface(
        contract=contract, observed={"gradients/moe.router.weight": (20, 8)}, collected={"optimizer/count": ()}
    )
    monkeypatch.setattr(interface, "interface", lambda asked: shown)
    page = shardproof("explain", "moe/dropless").stdout
    for name in (*contract.example, *contract.shapes, *shown.observed, *shown.collected, *contract.semantics):
        assert f"  {name} " in page
    assert "activations that enter the block" in page
    told = json.loads(shardproof("explain", "moe/dropless", "--json").stdout)
    assert told["batch"]["mask"] == {"dtype": "float64", "shape": [24, 7], "meaning": contract.keys["mask"]}
    assert set(contract.example) <= set(contract.keys)


def test_every_key_of_every_contract_has_a_meaning() -> None:
    for suite in suites().values():
        for contract in suite.contracts:
            batch = interface.plain(interface.Interface(contract=contract, observed={}, collected={}))["batch"]
            assert all(entry["meaning"] for entry in batch.values()), contract.name


def test_doctor_says_why_a_chip_cannot_be_compiled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "why_no_target", lambda chip: "the plugin is not installed")
    _doctored(monkeypatch, jax={"devices": ["cpu"]}, torch={"devices": ["cpu"], "gloo": True})
    findings = {finding.what: finding for finding in doctor.examine()}
    assert findings["target h100"].state == "limited"
    assert findings["target h100"].detail == "the plugin is not installed"
    assert "shardproof[aot]" in findings["target h100"].advice
    assert doctor.can_run(list(findings.values()))
