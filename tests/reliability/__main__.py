"""The command: do every injury, write the table; status 1 where something was lost, left, or misjudged."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

from conformance.records import environment
from tests.reliability.row import Row
from tests.reliability.rows import injuries

HEAD = """# What happens when things break

Each row is done to a whole `shardproof run` of real cases; made by `python -m tests.reliability results/reliability`.
In torch an injured program hurts its last rank only, and the others wait for it. *Next case*: seconds from the verdict
of the injured case to that of the next one, workers replaced in between; for what ends the main process, what the
command takes that goes on, to its end. Workers may take 2 GiB. A limit on the size of files stands for a full disk, and
two network namespaces with a link that is cut for two hosts. *Measured*: the day, and how many processes wanted a core.

| injury | where | came out | records lost | processes left | next case, s | measured |
| --- | --- | --- | --- | --- | --- | --- |
"""


def page(done: Sequence[Row]) -> Iterator[str]:
    yield HEAD.rstrip()
    for row in done:
        seconds = "never" if row.next_seconds is None else f"{row.next_seconds:.1f}"
        yield f"| {row.injury} | {row.where} | {row.came} | {row.lost} | {row.left} | {seconds} | {row.measured} |"
    yield ""
    machine = environment.machine()
    yield f"Python {machine['python']}, {machine['cpu_count']} cores, {machine['platform']}."


def main(arguments: Sequence[str]) -> int:
    """Rows that the folder has are kept, so that the command goes on where it was ended; taken out, they are made."""
    folder, table = Path(arguments[0]), Path(arguments[0]) / "reliability.json"
    folder.mkdir(parents=True, exist_ok=True)
    kept = json.loads(table.read_text()) if table.exists() else []
    done = {(row["injury"], row["where"]): Row(**row) for row in kept}
    for injury, where, act in injuries():
        if (injury, where) not in done:
            row = done[injury, where] = replace(act(), measured=f"{date.today()}, load {os.getloadavg()[0]:.0f}")
            print(row.wrong or f"{injury}, {where}: {row.came}", file=sys.stderr, flush=True)
            (folder / "README.md").write_text("\n".join(page(list(done.values()))) + "\n")
            lines = ",\n".join(json.dumps(asdict(row)) for row in done.values())
            table.write_text(f"[\n{lines}\n]\n")
    return 1 if any(row.wrong for row in done.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
