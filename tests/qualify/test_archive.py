"""An archive that is no honest package is refused before anything of it is unpacked."""

from __future__ import annotations

import io
import re
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.qualify import archive
from conformance.qualify.package import CASES, FILES
from conformance.qualify.verify import verify
from tests.qualify.conftest import DAY, KEY, Forger


def _zip(path: Path, change: Callable[[zipfile.ZipFile], None], given: dict[str, bytes]) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        warnings.simplefilter("ignore")  # zipfile itself warns of a name that is there twice
        for name, content in given.items():
            made.writestr(name, content)
        change(made)
    return path


def _link(made: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo(CASES)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    made.writestr(entry, "/etc/passwd")


ARCHIVES: dict[str, tuple[Callable[[zipfile.ZipFile], None], str, str]] = {
    "zip-slip": (lambda made: made.writestr("../../.bashrc", "x"), "", "unpacked outside of its folder."),
    "an absolute path": (lambda made: made.writestr("/etc/cron.d/x", "x"), "", "unpacked outside of its folder."),
    "an added file": (lambda made: made.writestr("run.py", "print(1)"), "", "The file 'run.py' belongs to no package"),
    "a file twice": (lambda made: made.writestr(CASES, "{}"), "", "is in the package twice."),
    "a symbolic link": (_link, CASES, "'cases.jsonl' is a symbolic link and no file."),
    "a zip bomb": (lambda made: made.writestr(CASES, b"0" * 2**26), CASES, "a zip bomb, or no record."),
    "a missing file": (lambda made: None, CASES, "The file 'cases.jsonl' is missing."),
    "a comment": (lambda made: setattr(made, "comment", b"#!/bin/sh"), "", "bytes in it that belong to none"),
}


@pytest.mark.parametrize("cheat", ARCHIVES)
def test_a_cheat_in_the_archive_is_refused(forger: Forger, tmp_path: Path, cheat: str) -> None:
    change, without, said = ARCHIVES[cheat]
    given = {name: content for name, content in forger.files.items() if name != without}
    with pytest.raises(archive.Refused) as refused:
        verify(_zip(tmp_path / "cheat.zip", change, given), key=KEY, day=DAY)
    assert said in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cheat.zip"], "nothing is unpacked"


def _directory(whole: bytes) -> int:
    """Where the entries of the directory begin."""
    place: int = struct.unpack("<L", whole[whole.rindex(b"PK\5\6") + 16 :][:4])[0]
    return place


def _behind_the_last(whole: bytes) -> bytes:
    """A file of its own in front of the directory, which does not name it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as hidden:
        hidden.writestr("evil.py", "import os")
    content, place = made.getvalue(), _directory(whole)
    local = content[: content.index(b"PK\1\2")]
    end = bytearray(whole[place:])
    end[-6:-2] = struct.pack("<L", place + len(local))
    return whole[:place] + local + bytes(end)


def _with_extra(whole: bytes) -> bytes:
    """A field of the first file's own header that the directory does not have."""
    (name,) = struct.unpack("<H", whole[26:28])
    extra = struct.pack("<HH", 0x9999, 6) + b"hidden"
    moved, place = bytearray(whole[_directory(whole) :]), _directory(whole)
    for at in [match.start() for match in re.finditer(b"PK\1\2", bytes(moved))][1:]:
        (offset,) = struct.unpack("<L", moved[at + 42 : at + 46])
        moved[at + 42 : at + 46] = struct.pack("<L", offset + len(extra))
    moved[-6:-2] = struct.pack("<L", place + len(extra))
    local = whole[:28] + struct.pack("<H", len(extra)) + whole[30 : 30 + name] + extra
    return local + whole[30 + name : place] + bytes(moved)


def _no_text(whole: bytes) -> bytes:
    """A name that is said to be UTF-8, and is not."""
    made = bytearray(whole.replace(b"statement.json", b"statem\xffnt.json"))
    made[_directory(whole) + 9] |= 8
    return bytes(made)


def _by_method(method: int, given: dict[str, bytes], *, extra: bytes = b"") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archived:
        for name, content in given.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.extra = method, extra
            archived.writestr(entry, content)
    return made.getvalue()


def _behind_the_stream(given: dict[str, bytes]) -> bytes:
    """Bytes behind the end of the first file's deflated stream, inside of what its header counts."""
    name, content = next(iter(given.items()))
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    hidden = stream.compress(content) + stream.flush() + b"hidden"
    whole = bytearray(_by_method(zipfile.ZIP_STORED, {name: hidden} | dict(list(given.items())[1:])))
    for at, size in ((8, 18), (_directory(bytes(whole)) + 10, _directory(bytes(whole)) + 20)):
        whole[at : at + 2] = struct.pack("<H", zipfile.ZIP_DEFLATED)
        whole[size + 4 : size + 8] = struct.pack("<L", len(content))
        whole[size - 4 : size] = struct.pack("<L", zlib.crc32(content))
    return bytes(whole)


LEFT_OVER = "The package has bytes in it that belong to none of its files."
BYTES: dict[str, tuple[Callable[[bytes, dict[str, bytes]], bytes], str]] = {
    "behind the end": (lambda whole, given: whole + b"hidden", LEFT_OVER),
    "a file that the directory does not name": (lambda whole, given: _behind_the_last(whole), LEFT_OVER),
    "a field of a file's own header": (lambda whole, given: _with_extra(whole), LEFT_OVER),
    "fields of all headers": (
        lambda whole, given: _by_method(zipfile.ZIP_DEFLATED, given, extra=struct.pack("<HH", 0x9999, 6) + b"hidden"),
        LEFT_OVER,
    ),
    "behind the end of a stream": (lambda whole, given: _behind_the_stream(given), LEFT_OVER),
    "a name that is no text": (lambda whole, given: _no_text(whole), "a name in it is no text."),
    "LZMA": (lambda whole, given: _by_method(zipfile.ZIP_LZMA, given), "is neither stored nor deflated"),
    "LZMA, corrupt": (
        lambda whole, given: bytes(
            x ^ 0x5A if 60 <= i < 200 else x for i, x in enumerate(_by_method(zipfile.ZIP_LZMA, given))
        ),
        "is neither stored nor deflated",
    ),
    "bzip2": (lambda whole, given: _by_method(zipfile.ZIP_BZIP2, given), "is neither stored nor deflated"),
}


@pytest.mark.parametrize("cheat", BYTES)
def test_bytes_that_are_no_file_of_the_package_are_refused(forger: Forger, tmp_path: Path, cheat: str) -> None:
    change, said = BYTES[cheat]
    path = tmp_path / "cheat.zip"
    path.write_bytes(change(forger.path.read_bytes(), forger.files))
    with pytest.raises(archive.Refused) as refused:
        verify(path, key=KEY, day=DAY)
    assert said in str(refused.value)
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize("method", archive.METHODS)
def test_what_is_packed_again_by_another_program_holds(forger: Forger, tmp_path: Path, method: int) -> None:
    path = tmp_path / "again.zip"
    path.write_bytes(_by_method(method, forger.files))
    assert archive.read(path, FILES) == forger.files


def test_a_header_that_lies_about_the_size_is_refused(forger: Forger, tmp_path: Path) -> None:
    content = bytearray(forger.path.read_bytes())
    size = len(forger.files[CASES]).to_bytes(4, "little")
    assert content.count(size) >= 2
    path = tmp_path / "lies.zip"
    path.write_bytes(content.replace(size, (1000).to_bytes(4, "little")))
    with pytest.raises(archive.Refused):
        verify(path, key=KEY, day=DAY)


@pytest.mark.parametrize("damage", ["cut", "in front", "no zip"])
def test_a_damaged_archive_is_a_sentence(forger: Forger, tmp_path: Path, damage: str) -> None:
    whole, path = forger.path.read_bytes(), tmp_path / "damaged.zip"
    path.write_bytes({"cut": whole[:-300], "in front": b"#!/bin/sh\n" + whole, "no zip": b"hello"}[damage])
    with pytest.raises(archive.Refused) as refused:
        verify(path, key=KEY, day=DAY)
    assert str(refused.value).count("\n") == 0
    assert zipfile.is_zipfile(io.BytesIO(whole))
