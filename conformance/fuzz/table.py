"""What fuzzing has come to, run by run: a file to which runs are added, and the page that is made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from conformance.fuzz.search import FINE, Fuzzed

RUNS, PAGE = "runs.jsonl", "fuzz.md"
FAILED = "The smallest case of each run that failed, and what its first failing check says (the page tells the cause):"


class FuzzRun(BaseModel):
    """One implementation fuzzed once. Minutes: asked for, and used with what shrinking took."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    implementation: str
    contracts: int
    seed: int
    minutes: float
    used: float
    verdicts: dict[str, int]
    failing: str = ""  # the smallest case that fails
    said: str = ""  # what its first failing check says
    versions: dict[str, str | None]

    @property
    def command(self) -> str:
        return f"shardproof fuzz {self.implementation} --minutes {self.minutes:g} --seed {self.seed}"

    @property
    def cases(self) -> int:
        return sum(self.verdicts.values())


def run_of(
    implementation: str, contracts: int, seed: int, minutes: float, fuzzed: Fuzzed, versions: dict[str, str | None]
) -> FuzzRun:
    failure = fuzzed.failure
    checks = [] if failure is None else [check for check in failure.checks if check.verdict == "fail"]
    return FuzzRun(
        implementation=implementation,
        contracts=contracts,
        seed=seed,
        minutes=minutes,
        used=round(fuzzed.seconds / 60, 2),
        verdicts=dict(fuzzed.verdicts),
        failing="" if failure is None else failure.case.id,
        said=_first_line(checks[0].detail if checks else failure.reason) if failure is not None else "",
        versions=versions,
    )


def _first_line(text: str) -> str:
    """Without the place behind it, which is one of this machine."""
    return text.strip().partition("\n")[0].partition(" (at ")[0].strip()


def read(folder: Path) -> list[FuzzRun]:
    """Those of earlier commands. A line that was cut off is not one of them."""
    file = folder / RUNS
    lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
    return [FuzzRun.model_validate_json(line) for line in lines if line.endswith("\n")]


def add(run: FuzzRun, folder: Path) -> None:
    """Behind the others, in place of an earlier one of the same command, and the page anew."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / RUNS
    kept = [other for other in read(folder) if other.command != run.command]
    whole = "".join(f"{each.model_dump_json()}\n" for each in (*kept, run))
    file.with_suffix(".new").write_text(whole)
    file.with_suffix(".new").replace(file)
    (folder / PAGE).write_text(page(read(folder)))


def page(runs: Sequence[FuzzRun]) -> str:
    """As Markdown."""
    cases, verdicts = sum(run.cases for run in runs), sum((Counter(run.verdicts) for run in runs), Counter[str]())
    minutes = sum(run.used for run in runs)
    rows = [
        f"| `{run.command}` | {run.contracts} | {run.cases} | {run.used:.1f} | {run.cases / run.used:.1f} | "
        f"{_counted(run.verdicts)} |"
        for run in runs
    ]
    failing = [f"* `{run.failing}`: {run.said}" for run in runs if run.failing]
    return "\n".join([
        "# Drawn cases",
        "",
        f"{len(runs)} runs, {cases} cases in {minutes:.0f} minutes: {_counted(verdicts)}. How cases are drawn is said "
        "in [fuzzing](../../docs/fuzzing.md). `python -m conformance.fuzz results/fuzz` adds what is not there yet.",
        "",
        "| command | contracts | cases | minutes | cases per minute | verdicts |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        *(["", FAILED, "", *failing] if failing else []),
        "",
    ])  # fmt: skip


def _counted(verdicts: Counter[str] | dict[str, int]) -> str:
    ordered = sorted(verdicts.items(), key=lambda item: (item[0] not in FINE, item[0]))
    return ", ".join(f"{number} {verdict}" for verdict, number in ordered) or "none"
