"""The archive: one zip with exactly the files of a package, written the same way always and read without trust."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from conformance.contract.errors import ShardproofError

LARGEST = 512 * 2**20  # bytes of one file of a package, unpacked
MOST_TIMES = 200  # unpacked / packed bytes: text packs to a tenth or twentieth, a bomb to a thousandth
FREE = 2**20  # bytes below which the ratio is not asked
EPOCH = (1980, 1, 1, 0, 0, 0)


class Refused(ShardproofError):  # noqa: N818 - says what happened to the package
    """A package that is not even read; the message is one sentence."""

    status = 1


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """Write the files in their order; the same files are the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)


def read(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The files of a package; Refused where it is anything but these files. Nothing is written anywhere."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_names([entry.filename for entry in entries], names)
            for entry in entries:
                _check_entry(entry)
            _check_bounds(entries, archive)
            return {entry.filename: _content(archive, entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as wrong:
        raise Refused(f"'{path}' is no whole zip file: {str(wrong).rstrip('.') or type(wrong).__name__}.") from None
    except OSError as wrong:
        raise Refused(f"'{path}' cannot be read: {wrong.strerror or wrong}.") from None


def _check_names(present: list[str], names: tuple[str, ...]) -> None:
    for name in present:
        if name.startswith(("/", "\\")) or ".." in name or "\\" in name or ":" in name:
            raise Refused(f"The file '{name}' would be unpacked outside of its folder.")
        if name not in names:
            raise Refused(f"The file '{name}' belongs to no package; the files are {', '.join(names)}.")
        if present.count(name) > 1:
            raise Refused(f"The file '{name}' is in the package twice.")
    for name in names:
        if name not in present:
            raise Refused(f"The file '{name}' is missing.")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    mode = entry.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise Refused(f"'{entry.filename}' is a symbolic link and no file.")
    if stat.S_IFMT(mode) and not stat.S_ISREG(mode):
        raise Refused(f"'{entry.filename}' is no regular file.")
    if entry.flag_bits & 1:
        raise Refused(f"'{entry.filename}' is encrypted.")
    if entry.file_size > LARGEST or entry.file_size > max(FREE, MOST_TIMES * entry.compress_size):
        sizes = f"from {entry.compress_size} to {entry.file_size} bytes"
        raise Refused(f"'{entry.filename}' unpacks {sizes}: a zip bomb, or no record.")


def _check_bounds(entries: list[zipfile.ZipInfo], archive: zipfile.ZipFile) -> None:
    if archive.comment or any(entry.comment for entry in entries) or min(e.header_offset for e in entries):
        raise Refused("The package has bytes in it that belong to none of its files.")


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """No more than the header says, whatever the stream holds."""
    with archive.open(entry) as stream:
        content = stream.read(entry.file_size + 1)
    if len(content) != entry.file_size:
        raise Refused(f"'{entry.filename}' holds another number of bytes than the package says.")
    return content
