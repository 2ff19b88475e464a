"""An archive that is no honest package is refused before anything of it is unpacked."""

from __future__ import annotations

import io
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.qualify import archive
from conformance.qualify.package import CASES
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
