"""The table at the end of a run: a block per suite, a row per implementation and dtype, as wide as the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conformance.cases.case import DTYPES
from conformance.records import formatting
from conformance.records.records import NOT_HERE, CaseRecord

WIDTH = 100  # at most: longer lines are hard to read
COUNTED = {
    "pass": ("pass",),
    "waived": ("waived",),
    "fail": ("fail",),
    "broken": ("error", "hang", "crash"),
    "refused": ("unsupported",),
    NOT_HERE: (NOT_HERE,),
}
BAD = ("fail", "broken")
FLUSH_RIGHT = (*COUNTED, "error/bound")
LEAST = 8  # characters, below which the last column is left out
NAMES = 18  # characters of an implementation's name that stay in any case


@dataclass(frozen=True, kw_only=True)
class Block:
    """The table of one suite; `red` are the cells (row, column) of verdicts that nobody wants."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    red: frozenset[tuple[int, int]]


def show_blocks(records: Sequence[CaseRecord]) -> None:
    """Print all of them: coloured on a terminal, plain in a pipe. Nothing, where no case has ended."""
    shown = blocks(records)
    rooms = _rooms(shown, _width()) if shown else []
    for block in shown:
        print()
        for number, line in enumerate(_lines(block, rooms)):
            _print(block, number, line)


def blocks(records: Sequence[CaseRecord]) -> list[Block]:
    """One block per suite, all with the same columns: those in which there is something to count."""
    outcomes = {record.outcome for record in records}
    counted = [title for title, those in COUNTED.items() if outcomes.intersection(those)]
    return [
        _block(suite, [record for record in records if record.suite == suite], counted) for suite in _suites(records)
    ]


def _suites(records: Sequence[CaseRecord]) -> list[str]:
    return sorted({record.suite for record in records})


def _block(suite: str, records: Sequence[CaseRecord], counted: Sequence[str]) -> Block:
    keys = {(record.implementation, record.dtype): None for record in records}
    ordered = sorted(keys, key=lambda key: (key[0], DTYPES.index(key[1])))
    rows, red, last = [], set(), ""
    for number, (implementation, dtype) in enumerate(ordered):
        own = [record for record in records if (record.implementation, record.dtype) == (implementation, dtype)]
        counts = [sum(record.outcome in COUNTED[title] for record in own) for title in counted]
        name = "" if implementation == last else implementation
        rows.append((name, dtype, *(str(count or "") for count in counts), *_worst(own)))
        red |= {(number, 2 + i) for i, title in enumerate(counted) if counts[i] and title in BAD}
        last = implementation
    contracts = formatting.count(len({record.contract for record in records}), "contract")
    return Block(
        title=f"{suite}: {formatting.count(len(records), 'case')} of {contracts}",
        head=("implementation", "dtype", *counted, "error/bound", "worst in"),
        rows=tuple(rows),
        red=frozenset(red),
    )


def _worst(records: Sequence[CaseRecord]) -> tuple[str, str]:
    """The worst error/bound, and the contract, without its suite, that has it."""
    held = [record for record in records if record.worst is not None]
    if not held:
        return "", ""
    farthest = max(held, key=lambda record: record.worst.ratio if record.worst else 0.0)
    return formatting.ratio(farthest.worst.ratio if farthest.worst else None), farthest.contract.partition("/")[2]


def _width() -> int:
    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)


def _rooms(shown: Sequence[Block], width: int) -> list[int]:
    """The width of each column. Where all of it would not fit, contracts give way, then paths, then other names."""
    lines = [row for block in shown for row in (block.head, *block.rows)]
    rooms = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    last, registered = len(rooms) - 1, max(len(row[0]) for row in lines if "/" not in row[0])
    for column, least in ((last, NAMES), (0, registered), (last, 0), (0, NAMES)):
        beyond = sum(rooms) + 2 * (len(rooms) - 1) - width
        rooms[column] -= max(0, min(beyond, rooms[column] - least))
    return rooms


def _lines(block: Block, rooms: Sequence[int]) -> Iterator[list[str]]:
    yield [block.title]
    for row in (block.head, *block.rows):
        yield [
            _placed(cell, room, title)
            for cell, room, title in zip(row, rooms, block.head, strict=True)
            if room >= LEAST or title != block.head[-1]
        ]


def _placed(cell: str, room: int, title: str) -> str:
    if title in FLUSH_RIGHT:
        return cell.rjust(room)
    return _short(cell, room, keep_end=title == "implementation").ljust(room)


def _short(text: str, room: int, *, keep_end: bool) -> str:
    """As much of it as fits: of a path the end, which tells it from others, and of a name the beginning."""
    if len(text) <= room:
        return text
    return f"..{text[len(text) - room + 2 :]}" if keep_end else f"{text[: room - 2]}.."


def _print(block: Block, number: int, cells: Sequence[str]) -> None:
    """A line of a block: the title, the head, then the rows."""
    if not sys.stdout.isatty():
        print("  ".join(cells).rstrip())
        return
    from rich.console import Console
    from rich.text import Text

    styles = ["bold red" if (number - 2, column) in block.red else "" for column in range(len(cells))]
    if number < 2:
        styles = ["bold" if number == 0 else "dim"] * len(cells)
    text = Text("  ").join(Text(cell, style=style) for cell, style in zip(cells, styles, strict=True))
    Console(width=_width()).print(text, soft_wrap=True)
