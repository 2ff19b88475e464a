"""Damage: what disks, networks and interrupted programs do to the files of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

MOST_FILES = 8
WINDOW, MOST_WINDOWS = 64, 4096  # bytes; windows of a file
DESCRIPTIONS = ("meta", "index", "manifest", "json", "commit", "checksum", "digest")  # in names of what describes data

Damage = tuple[str, Callable[[Path], None]]  # what was done; does it to a copy of the folder


def damages(folder: Path) -> Iterator[Damage]:
    """Ways to damage a good checkpoint, one at a time; the same ones in the same order on every rank."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for file in _chosen(folder, files):
        if (folder / file).stat().st_size:
            yield f"{file} truncated", partial(_truncate, file, 0.5)
            yield f"{file} emptied", partial(_truncate, file, 0.0)
        yield f"{file} missing", partial(_remove, [file])
    if files:
        largest = max(files, key=lambda file: (folder / file).stat().st_size)
        yield f"a byte of {largest} flipped", partial(_flip, largest, 0.5)
        file, place = _busiest(folder, files)
        yield f"a byte of {file} flipped among its numbers", partial(_flip, file, place)
        oldest_first = sorted(files, key=lambda file: ((folder / file).stat().st_mtime_ns, file))
        yield "an unfinished save", partial(_remove, oldest_first[len(files) // 2 :])


def _chosen(folder: Path, files: list[Path]) -> list[Path]:
    """The largest file, the newest, those that describe the others, then any."""
    if len(files) <= MOST_FILES:
        return files
    sizes = sorted(files, key=lambda file: -(folder / file).stat().st_size)
    ages = sorted(files, key=lambda file: -(folder / file).stat().st_mtime_ns)
    described = [file for file in files if any(word in file.name.lower() for word in DESCRIPTIONS)]
    return list(dict.fromkeys([sizes[0], ages[0], *described, *files]))[:MOST_FILES]


def _busiest(folder: Path, files: list[Path]) -> tuple[Path, float]:
    """Where numbers lie, and how far into the file: no padding, header or text has so many different bytes."""
    candidates = [(variety, file, place) for file in files for variety, place in _varieties(folder / file)]
    return max(candidates, key=lambda candidate: candidate[0])[1:] if candidates else (files[0], 0.5)


def _varieties(path: Path) -> Iterator[tuple[int, float]]:
    """How many different bytes a window has, and where its middle is, for windows all over a file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for start in range(0, size - WINDOW + 1, max(WINDOW, size // MOST_WINDOWS)):
            file.seek(start)
            yield len(set(file.read(WINDOW))), (start + WINDOW / 2) / size


def _truncate(file: Path, share: float, folder: Path) -> None:
    path = folder / file
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def _remove(files: list[Path], folder: Path) -> None:
    for file in files:
        (folder / file).unlink()


def _flip(file: Path, place: float, folder: Path) -> None:
    content = bytearray((folder / file).read_bytes())
    if content:
        content[int(place * len(content))] ^= 0xFF
    (folder / file).write_bytes(content)
