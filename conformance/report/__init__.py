"""Reports: HTML for people, JUnit for CI, CSV for spreadsheets, Markdown for pull requests; all made from records."""

from __future__ import annotations

from pathlib import Path

from conformance.records.recorder import Results, read


def write_html(directory: Path) -> Path:
    """Write the HTML report of a results directory into it."""
    from conformance.report import html

    return html.write_html(read(directory))


def write_all(results: Results) -> list[Path]:
    """Write every report into the results directory."""
    from conformance.report import html, junit, tables

    return [
        html.write_html(results),
        junit.write_junit(results),
        tables.write_csv(results),
        tables.write_markdown(results),
    ]
