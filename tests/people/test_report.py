"""Reports: one self-contained page, well-formed JUnit, a row per case, and nothing hidden in any of them."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from people_records import broken, case, everything, failing, passing, write

from conformance.contract.timeline import Bar, Lane, Timeline
from conformance.records.recorder import Results, read
from conformance.report import write_all
from conformance.report.distribution import BINS, histograms
from conformance.report.html import anchor, html
from conformance.report.matrix import Cell, matrices, shade
from conformance.report.timelines import drawings

VOID = {"meta", "link", "br", "img", "line", "rect"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Written once; no test changes them."""
    results = read(write(tmp_path_factory.mktemp("results") / "out", everything()))
    write_all(results)
    return results


@pytest.fixture(scope="module")
def page(results: Results) -> str:
    return (results.directory / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Collects ids, links and whatever would be loaded from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if "id" in given:
            assert given["id"] not in self.ids, f"the id {given['id']} is given twice"
            self.ids.add(str(given["id"]))
        if tag == "a" and given.get("href"):
            self.links.add(str(given["href"]))
        if tag in ("script", "link", "img", "iframe") or "src" in given:
            self.loads.append(tag)


def test_the_page_needs_nothing_else(page: str) -> None:
    document = Page(page)
    assert document.loads == []
    assert "http" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert 'name="viewport"' in page


def test_every_link_leads_somewhere(page: str) -> None:
    document = Page(page)
    assert {link.removeprefix("#") for link in document.links} <= document.ids


def test_every_case_that_is_not_as_expected_has_its_section(results: Results, page: str) -> None:
    text = _text(page)
    unexpected = [record for record in results.records if not record.as_expected]
    assert len(unexpected) == 6
    for record in unexpected:
        assert f'id="{anchor(record)}"' in page
        assert record.reproduce in text
        assert record.case in text
        for check in record.failing:
            assert check.detail in text
            assert all(cause.cause in text for cause in check.diagnosis)
    assert "axis tensor" in text
    assert "97 %" in text


def test_what_a_worker_printed_is_text_and_not_markup(page: str) -> None:
    assert "# &lt;- &amp; &#34;here&#34;" in page
    assert "\x1b" not in page


def test_the_headline_counts(page: str) -> None:
    assert re.search(r"<h1>6 of \d+ cases are not as expected</h1>", page)
    assert "9.4 % overhead" in page


def test_a_good_run_says_so(here: Path) -> None:
    results = read(write(here / "good", [passing(case())]))
    write_all(results)
    page = (here / "good" / "report.html").read_text()
    assert "The one case is as expected" in page
    assert "Not as expected" not in page


def test_an_empty_run_never_looks_good(here: Path) -> None:
    results = read(write(here / "empty", []))
    write_all(results)
    page = (here / "empty" / "report.html").read_text()
    assert "No case was run" in page
    assert 'class="bad"' in page


def test_a_complaint_about_the_records_is_on_the_page(here: Path) -> None:
    write(here / "out", [passing(case())])
    with (here / "out" / "cases.jsonl").open("a") as stream:
        stream.write("{spoilt\n")
    write_all(read(here / "out"))
    assert "line 2 cannot be read" in _text((here / "out" / "report.html").read_text())


def test_cells_are_never_told_apart_by_colour_alone() -> None:
    shown = {verdict: _cell(verdict).text for verdict in ("pass", "fail", "hang", "crash", "error", "unsupported")}
    assert shown == {
        "pass": "\u2713 0.30", "fail": "\u2717 4e5", "hang": "hang", "crash": "crash", "error": "error",
        "unsupported": "refused",
    }  # fmt: skip


def _cell(verdict: str) -> Cell:
    from conformance.records.records import CaseRecord

    result = {"pass": passing, "fail": failing}.get(verdict, lambda failing_case: broken(failing_case, verdict))(case())
    return Cell(records=(CaseRecord.of(result),))


def test_a_cell_shows_its_worst_seed(results: Results) -> None:
    from conformance.records.records import CaseRecord

    records = [CaseRecord.of(passing(case(), ratio=0.9)), CaseRecord.of(failing(case(), ratio=3.0))]
    cell = Cell(records=tuple(records))
    assert cell.shown.verdict == "fail"
    assert cell.text == "\u2717 3.00 \u00d72"


def test_a_failure_with_a_small_error_is_not_shaded_as_a_pass() -> None:
    from conformance.records.records import CaseRecord

    assert shade(CaseRecord.of(passing(case(), ratio=1.0))) < 4
    assert shade(CaseRecord.of(failing(case(), ratio=0.5))) >= 4


def test_the_matrix_holds_every_record_once(results: Results) -> None:
    held = [
        record.case
        for matrix in matrices(results.records)
        for _, cells in matrix.rows
        for cell in cells
        for record in cell.records
    ]
    assert sorted(held) == sorted(record.case for record in results.records)


def test_histograms_count_every_figure(results: Results) -> None:
    for histogram in histograms(results.records):
        figures = [
            ratio
            for record in results.records
            if record.dtype == histogram.dtype
            for check in record.checks
            for ratio in check.ratios.values()
        ]
        assert sum(bar.count for bar in histogram.bars) == histogram.count == len(figures)
        assert sum(bar.count for bar in histogram.bars if bar.beyond) == sum(ratio > 1 for ratio in figures)
        assert len(histogram.bars) <= BINS


def test_an_error_equal_to_its_bound_is_within_it() -> None:
    from conformance.records.records import CaseRecord

    (histogram,) = histograms([CaseRecord.of(passing(case(), ratio=1.0))])
    assert not any(bar.beyond for bar in histogram.bars)


def test_junit_is_well_formed_and_counts(results: Results) -> None:
    root = ElementTree.parse(results.directory / "junit.xml").getroot()
    cases = root.findall("./testsuite/testcase")
    assert sorted(str(element.get("name")) for element in cases) == sorted(record.case for record in results.records)
    for element in (root, *root.findall("testsuite")):
        own = element.findall(".//testcase")
        assert int(str(element.get("tests"))) == len(own)
        for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(str(element.get(key))) == sum(element.find(tag) is not None for element in own)
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("3", "3", "1")
    (failure,) = root.findall(".//testcase[@name='tensor/attention_gqa_headnorm[jax-shard_map-data3_tensor2-float64]']")
    properties = {element.get("name"): element.get("value") for element in failure.findall("./properties/property")}
    assert properties["logic.ratio"] == "400000"
    assert properties["mesh"] == "data=3,tensor=2"
    assert "shardproof run --contract" in str(failure.findtext("failure"))


def test_csv_has_a_row_per_case(results: Results) -> None:
    with (results.directory / "cases.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows] == [record.case for record in results.records]
    (failed,) = [row for row in rows if row["mesh"] == "data=3,tensor=2"]
    assert (failed["axis"], failed["failed_checks"], failed["confidence"]) == ("tensor", "logic replicas", "0.97")


def test_markdown_has_totals_table_and_failures(results: Results) -> None:
    text = (results.directory / "report.md").read_text()
    assert "6 not as expected" in text
    assert "| contract | " in text
    assert " | jax-shard\\_map | " in text
    assert text.count("\n## ") == 6


def test_report_command_writes_all_four(shardproof, results: Results) -> None:
    done = shardproof("report", results.directory)
    assert done.exit_code == 0
    assert [Path(line).name for line in done.stdout.splitlines()] == [
        "report.html",
        "junit.xml",
        "cases.csv",
        "report.md",
    ]


def _text(page: str) -> str:
    """What somebody reads: markup and invisible break points removed."""
    from html import unescape

    return unescape(re.sub(r"<[^>]+>", "", page)).replace("\u200b", "")


def plan(title: str = "1f1b") -> Timeline:
    lanes = (
        Lane(name="rank 0", bars=(Bar(start=0, end=1, kind="forward", label="0"),)),
        Lane(name="rank 1", bars=(Bar(start=1, end=3, kind="backward", label="0"),)),
    )
    return Timeline(title=title, unit="time in forward passes", lanes=lanes)


def test_every_timeline_is_drawn_once_with_its_idle_time(here: Path) -> None:
    planned = [replace(passing(case(dtype=dtype)), timeline=plan()) for dtype in ("float64", "float32")]
    other = replace(passing(case("tensor/layer")), timeline=plan("zbv"))
    results = read(write(here / "out", [*planned, other, passing(case("tensor/swiglu"))]))
    assert [(drawing.title, drawing.cases) for drawing in drawings(results.records)] == [("1f1b", 2), ("zbv", 1)]
    [drawing, _] = drawings(results.records)
    assert drawing.idle == pytest.approx(0.5)
    (first,), (second,) = (lane.bars for lane in drawing.lanes)
    assert second.x == pytest.approx(first.x + first.width)
    assert second.width == pytest.approx(2 * first.width)
    page = html(results)
    assert page.count('<figure class="timeline">') == 2
    assert "idle 50" in page


def test_a_page_without_timelines_has_no_empty_section(page: str) -> None:
    assert 'id="timelines"' not in page
