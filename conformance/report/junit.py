"""JUnit: one test suite per contract, one test case per case under its id; properties carry the figures."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from conformance.records.files import write_whole
from conformance.records.recorder import Results
from conformance.records.records import CaseRecord
from conformance.report.html import clean
from conformance.report.terminal import what_failed


def junit(results: Results) -> Element:
    """The whole document. A case that is not as expected is a failure, or an error where nothing could be judged."""
    root = Element("testsuites", _counts(results.records), name="shardproof")
    for contract in dict.fromkeys(record.contract for record in results.records):
        records = [record for record in results.records if record.contract == contract]
        suite = SubElement(root, "testsuite", _counts(records), name=contract, timestamp=results.run.started)
        for record in records:
            suite.append(_case(record))
    return root


def _counts(records: tuple[CaseRecord, ...] | list[CaseRecord]) -> dict[str, str]:
    outcomes = [outcome(record) for record in records]
    seconds = math.fsum(record.seconds for record in records)
    return {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count("failure")),
        "errors": str(outcomes.count("error")),
        "skipped": str(outcomes.count("skipped")),
        "time": f"{seconds:.3f}",
    }


def outcome(record: CaseRecord) -> str:
    """passed, skipped, failure or error."""
    if record.as_expected:
        return "passed" if record.verdict == "pass" else "skipped"
    return "error" if record.verdict in ("error", "hang", "crash") else "failure"


def _case(record: CaseRecord) -> Element:
    case = Element("testcase", name=record.case, classname=record.contract, time=f"{record.seconds:.3f}")
    properties = SubElement(case, "properties")
    for name, value in properties_of(record).items():
        SubElement(properties, "property", name=name, value=clean(value))
    result = outcome(record)
    if result == "skipped":
        SubElement(case, "skipped", message=clean(record.reason or record.verdict))
    elif result != "passed":
        told = list(what_failed(record))
        SubElement(case, result, type=record.verdict, message=clean(told[0])).text = clean("\n".join(told))
    if record.stack or record.output:
        SubElement(case, "system-err").text = clean(f"{record.stack}\n{record.output}".strip())
    return case


def properties_of(record: CaseRecord) -> dict[str, str]:
    """The figures of a case, by name: its axes of the matrix, then error, bound and ratio of each check."""
    properties = {
        "verdict": record.verdict, "implementation": record.implementation, "framework": record.framework,
        "mesh": str(record.layout), "dtype": record.dtype, "seed": str(record.seed),
    }  # fmt: skip
    if record.not_held:
        properties["not_held"] = " ".join(record.not_held)
    for check in record.checks:
        properties[f"{check.check}.compared"] = str(check.compared)
        if check.worst is not None:
            properties[f"{check.check}.error"] = f"{check.worst.error:.6g}"
            properties[f"{check.check}.bound"] = f"{check.worst.bound:.6g}"
            properties[f"{check.check}.ratio"] = f"{check.worst.ratio:.6g}"
    for phase, seconds in record.phases.items():
        properties[f"{phase}_seconds"] = f"{seconds:.6g}"
    return properties


def write_junit(results: Results) -> Path:
    """Write `junit.xml` beside the records."""
    path = results.directory / "junit.xml"
    root = junit(results)
    indent(root)
    write_whole(path, f"<?xml version='1.0' encoding='utf-8'?>\n{tostring(root, encoding='unicode')}")
    return path
