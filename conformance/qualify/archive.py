"""The archive: one zip with exactly the files of a package, written the same way always and read without trust."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from conformance.contract.errors import ShardproofError

LARGEST = 512 * 2**20  # bytes of one file of a package, unpacked
MOST_TIMES = 200  # unpacked / packed bytes: text packs to a tenth or twentieth, a bomb to a thousandth
FREE = 2**20  # bytes below which the ratio is not asked
EPOCH = (1980, 1, 1, 0, 0, 0)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
LOCAL = struct.Struct("<4s5H3L2H")  # in front of each file: version, flags, method, time, date; crc, sizes; lengths
CENTRAL = 46  # bytes of an entry of the directory, without its name
END = struct.Struct("<4s4H2LH")  # the last bytes: disks, numbers of entries; size and place of the directory; comment
LEFT_OVER = "The package has bytes in it that belong to none of its files."
BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError
)  # fmt: skip


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
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_names([entry.filename for entry in entries], names)
            for entry in entries:
                _check_entry(entry)
            _check_bounds(entries, archive.comment, file)
            return {entry.filename: _content(file, entry) for entry in entries}
    except BROKEN as wrong:
        why = "a name in it is no text" if isinstance(wrong, UnicodeError) else str(wrong).rstrip(".")
        raise Refused(f"'{path}' is no whole zip file: {why or type(wrong).__name__}.") from None
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
    if entry.compress_type not in METHODS:
        raise Refused(f"'{entry.filename}' is neither stored nor deflated: another method is read nowhere.")
    if entry.file_size > LARGEST or entry.file_size > max(FREE, MOST_TIMES * entry.compress_size):
        sizes = f"from {entry.compress_size} to {entry.file_size} bytes"
        raise Refused(f"'{entry.filename}' unpacks {sizes}: a zip bomb, or no record.")


def _check_bounds(entries: list[zipfile.ZipInfo], comment: bytes, file: BinaryIO) -> None:
    """Each file behind its header, one after the other, then the directory and its end: no byte is left over."""
    place = 0
    for entry in entries:
        _check_header(file, entry, place)
        place += LOCAL.size + len(entry.filename) + entry.compress_size
    size = sum(CENTRAL + len(entry.filename) for entry in entries)
    last = file.seek(0, 2) - END.size
    file.seek(max(last, 0))
    end = END.pack(b"PK\5\6", 0, 0, len(entries), len(entries), size, place, 0)
    if comment or last != place + size or file.read() != end:
        raise Refused(LEFT_OVER)


def _check_header(file: BinaryIO, entry: zipfile.ZipInfo, place: int) -> None:
    """That in front of a file says the same as the directory, and nothing more."""
    file.seek(place)
    mark, _, flags, method, _, _, crc, packed, size, name, more = LOCAL.unpack(file.read(LOCAL.size))
    named = entry.filename.encode()
    said = (flags, method, crc, packed, size)
    known = (entry.flag_bits, entry.compress_type, entry.CRC, entry.compress_size, entry.file_size)
    if (mark, entry.header_offset, name, more, said) != (b"PK\3\4", place, len(named), 0, known):
        raise Refused(LEFT_OVER)
    if file.read(name) != named or entry.orig_filename != entry.filename or entry.extra or entry.comment:
        raise Refused(LEFT_OVER)


def _content(file: BinaryIO, entry: zipfile.ZipInfo) -> bytes:
    """No more than the header says, whatever the stream holds; nothing behind the end of the stream."""
    file.seek(entry.header_offset + LOCAL.size + len(entry.filename))
    content = file.read(entry.compress_size)
    if entry.compress_type == zipfile.ZIP_DEFLATED:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        content = stream.decompress(content, entry.file_size + 1)
        if len(content) == entry.file_size and (stream.unused_data or not stream.eof):
            raise Refused(LEFT_OVER)
    if len(content) != entry.file_size:
        raise Refused(f"'{entry.filename}' holds another number of bytes than the package says.")
    if zlib.crc32(content) != entry.CRC:
        raise Refused(f"'{entry.filename}' is damaged: its checksum is another one.")
    return content
