"""A results directory: nothing recorded is lost, and what cannot be read is said in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from people_records import broken, case, everything, failing, passing, run_record, write

from conformance.cases.usage import UsageError
from conformance.records.recorder import Recorder, read
from conformance.records.records import CaseRecord


def test_everything_written_is_read(here: Path) -> None:
    results = everything()
    records = read(write(here / "out", results))
    wanted = sorted((result.case for result in results), key=lambda case: case.id)
    assert [record.result().case for record in records.records] == wanted
    assert records.run.totals["pass"] == sum(result.verdict == "pass" for result in results)
    assert records.run.unexpected == 6
    assert records.complaints == ()


def test_a_record_is_on_disk_before_the_next_case(here: Path) -> None:
    recorder = Recorder(here / "out", run_record(planned=2))
    recorder.append(CaseRecord.of(passing(case())))
    results = read(here / "out")
    assert len(results.records) == 1
    assert results.run.finished is None


@pytest.mark.parametrize("damage", [b'{"case": "tensor/mlp[', b"\xff\xfe\x00", b"[]", b'{"case": 3}', b"null"])
def test_a_corrupt_line_costs_only_itself(here: Path, damage: bytes) -> None:
    write(here / "out", [passing(case()), failing(case(mesh="tensor=2"))])
    path = here / "out" / "cases.jsonl"
    first, second = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, damage, second]))
    results = read(here / "out")
    assert [record.verdict for record in results.records] == ["pass", "fail"]
    (complaint,) = results.complaints
    assert "cases.jsonl, line 2 cannot be read" in complaint
    assert "2 good records are kept" in complaint
    assert "\n" not in complaint


def test_a_record_of_a_newer_version_is_named_as_such(here: Path) -> None:
    write(here / "out", [passing(case())])
    path = here / "out" / "cases.jsonl"
    path.write_text(path.read_text().replace('"schema_version":1', '"schema_version":2'))
    (complaint,) = read(here / "out").complaints
    assert "schema version 2, this shardproof reads 1" in complaint


def test_a_run_cut_short_goes_on(here: Path) -> None:
    write(here / "out", [passing(case()), passing(case(mesh="tensor=2"))])
    path = here / "out" / "cases.jsonl"
    path.write_bytes(path.read_bytes()[:-40])  # killed while it wrote the second record
    recorder = Recorder(here / "out", run_record(planned=3), resume=True)
    assert recorder.done == {case().id}
    recorder.append(CaseRecord.of(passing(case(mesh="tensor=2"))))
    recorder.append(CaseRecord.of(broken(case(mesh="tensor=3"), "hang")))
    recorder.close(finished="2025-11-21T10:00:00+00:00")
    results = read(here / "out")
    assert [record.verdict for record in results.records] == ["pass", "pass", "hang"]
    assert results.run.totals == {"pass": 2, "hang": 1}


def test_the_last_record_of_a_case_counts(here: Path) -> None:
    results = read(write(here / "out", [failing(case()), passing(case())]))
    assert [record.verdict for record in results.records] == ["pass"]


@pytest.mark.parametrize("content", ["{", '{"hello": 1}', "[1]"])
def test_somebody_elses_run_json(here: Path, content: str) -> None:
    (here / "run.json").write_text(content)
    with pytest.raises(UsageError, match="no run record of shardproof"):
        read(here)


def test_directories_that_are_not_ours(here: Path) -> None:
    with pytest.raises(UsageError, match="There is no results directory"):
        read(here / "nowhere")
    (here / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is no results directory"):
        read(here)
    with pytest.raises(UsageError, match=r"holds other files \(notes.txt\)"):
        Recorder(here, run_record())
    with pytest.raises(UsageError, match="is a file"):
        Recorder(here / "notes.txt", run_record())
    assert (here / "notes.txt").read_text() == "mine"


def test_a_second_run_does_not_overwrite_the_first(here: Path) -> None:
    write(here / "out", [passing(case())])
    with pytest.raises(UsageError, match="already holds results: go on with --resume"):
        Recorder(here / "out", run_record())
    assert len(read(here / "out").records) == 1
