"""The page of what was compared, and the file of it, to which cases are added one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from conformance.agreement.compared import Compared

CASES, PAGE = "cases.jsonl", "single.md"
COMMAND = "python -m conformance.agreement results/single"
HEAD = "| suite | core, JAX | compared | alike | refused | other verdicts | seconds, emulated | seconds, single |"


def read(folder: Path) -> list[Compared]:
    """Those of earlier commands. A line that was cut off is not one of them."""
    file = folder / CASES
    lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
    return [Compared.model_validate_json(line) for line in lines if line.endswith("\n")]


def write(compared: Sequence[Compared], core: Mapping[str, int], folder: Path) -> None:
    """Both files, whole. `core` says how many cases a suite has."""
    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(compared, key=lambda comparison: comparison.case)
    file = folder / CASES
    file.with_suffix(".new").write_text("".join(f"{comparison.model_dump_json()}\n" for comparison in ordered))
    file.with_suffix(".new").replace(file)
    (folder / PAGE).write_text(page(ordered, core))


def page(compared: Sequence[Compared], core: Mapping[str, int]) -> str:
    """As Markdown."""
    ran = [comparison for comparison in compared if not comparison.refused]
    others = [comparison for comparison in ran if not comparison.alike]
    return "\n".join([
        "# One device in place of a mesh, beside emulated devices",
        "",
        f"{len(compared)} of the {sum(core.values())} core cases in JAX, each judged on emulated devices and on a "
        f"single one: {len(ran) - len(others)} alike, verdict by verdict and check by check, "
        f"{len(compared) - len(ran)} refused, {len(others)} with other verdicts. `{COMMAND}` goes on where it stopped.",
        "",
        HEAD,
        f"|{' --- |' * HEAD.count(' |')}",
        *(_row(suite, [comparison for comparison in compared if comparison.suite == suite], number)
          for suite, number in core.items()),
        *_listed("Refused:", Counter(comparison.single.reason for comparison in compared if comparison.refused)),
        *_listed("Checks of emulated devices that were not judged on the single one:",
                 Counter(name for comparison in ran for name in comparison.unheld)),
        *_listed("Other verdicts:", Counter(_other(comparison) for comparison in others)),
        "",
    ])  # fmt: skip


def _row(suite: str, compared: Sequence[Compared], core: int) -> str:
    alike = sum(comparison.alike for comparison in compared)
    refused = sum(comparison.refused for comparison in compared)
    ran = [comparison for comparison in compared if not comparison.refused]
    seconds = [f"{sum(took) / len(ran):.1f}" if ran else ""
               for took in ([comparison.emulated.seconds for comparison in ran],
                            [comparison.single.seconds for comparison in ran])]  # fmt: skip
    cells = (suite, core, len(compared), alike, refused, len(compared) - alike - refused, *seconds)
    return f"| {' | '.join(map(str, cells))} |"


def _other(comparison: Compared) -> str:
    checks = f" ({', '.join(comparison.differing)})" if comparison.differing else ""
    verdicts = f"{comparison.emulated.verdict} and {comparison.single.verdict}"
    return f"`{comparison.case}`: {verdicts}{checks}. {comparison.single.reason}".strip()


def _listed(title: str, counted: Counter[str]) -> list[str]:
    rows = [f"* {number} times: {said}" if number > 1 else f"* {said}" for said, number in counted.most_common()]
    return ["", title, "", *rows] if rows else []
