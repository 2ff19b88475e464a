"""The command: do every injury, write the table; status 1 where something was lost, left, or misjudged."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from conformance.records import environment
from tests.reliability.rows import Row, rows

HEAD = """# What happens when things break

Each row is done to a whole `shardproof run` of real cases; made by `python -m tests.reliability results/reliability`.
In torch an injured program hurts its last rank only, and the others wait for it. *Next case*: seconds from the verdict
of the injured case to that of the next one, workers replaced in between; for what ends the main process, from the start
of the command that goes on. Workers may take 2 GiB. A size limit on files stands for a full disk.

| injury | where | came out | records lost | processes left | next case, s |
| --- | --- | --- | --- | --- | --- |
"""


def page(done: Sequence[Row]) -> Iterator[str]:
    yield HEAD.rstrip()
    for row in done:
        seconds = "never" if row.next_seconds is None else f"{row.next_seconds:.1f}"
        yield f"| {row.injury} | {row.where} | {row.came} | {row.lost} | {row.left} | {seconds} |"
    yield ""
    machine = environment.machine()
    yield f"Python {machine['python']}, {machine['cpu_count']} cores, {machine['platform']}."


def main(arguments: Sequence[str]) -> int:
    folder, done = Path(arguments[0]), []
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows():
        done.append(row)
        print(row.wrong or f"{row.injury}, {row.where}: {row.came}", file=sys.stderr, flush=True)
    (folder / "README.md").write_text("\n".join(page(done)) + "\n")
    lines = ",\n".join(json.dumps(asdict(row)) for row in done)
    (folder / "reliability.json").write_text(f"[\n{lines}\n]\n")
    return 1 if any(row.wrong for row in done) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
