"""A run of two real cases with all figures, the package that is made of it, and a key for waivers of the tests' own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner, Result

from conformance.cli.main import app
from conformance.qualify import archive
from conformance.qualify.derived import files
from conformance.qualify.pack import pack
from conformance.qualify.package import FILES, Claim, Contents
from conformance.qualify.verify import _contents, verify

PRIVATE = Ed25519PrivateKey.generate()
KEY = PRIVATE.public_key().public_bytes_raw().hex()
CLAIM = Claim(vendor="Acme", device="X1", stack="driver 1.2, plugin 3.4")
DAY = date(2030, 5, 1)
RUN = ("qualify", "run", "collectives", "--framework", "jax", "--rehearse", "--devices", "emulated", "--workers", "1")


@pytest.fixture(autouse=True)
def without_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of the same process set the compiler's flags, with which nothing qualifies."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)


@pytest.fixture
def shardproof() -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a rehearsal of two cases wrote."""
    folder = tmp_path_factory.mktemp("rehearsal") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XLA_FLAGS", raising=False)
        done = CliRunner().invoke(app, [*RUN, "--output", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="session")
def package(finished: Path) -> Path:
    path = finished.parent / "acme.zip"
    pack(finished, path, CLAIM, key=KEY, day=DAY)
    return path


@pytest.fixture
def results(finished: Path, tmp_path: Path) -> Path:
    """The results once more, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "results"))


@dataclass(frozen=True, kw_only=True)
class Forger:
    """Makes packages as somebody would who knows how they are made: all that follows is made to follow."""

    path: Path
    folder: Path

    @property
    def files(self) -> dict[str, bytes]:
        return archive.read(self.path, FILES)

    @property
    def contents(self) -> Contents:
        return _contents(self.files)

    def written(self, given: dict[str, bytes]) -> Path:
        path = self.folder / "forged.zip"
        archive.write(path, given)
        return path

    def refusal(self, given: Contents | dict[str, bytes]) -> str:
        """Why the package is refused."""
        path = self.written(files(given) if isinstance(given, Contents) else given)
        with pytest.raises(archive.Refused) as refused:
            verify(path, key=KEY, day=DAY)
        return str(refused.value)


@pytest.fixture
def forger(package: Path, tmp_path: Path) -> Forger:
    return Forger(path=package, folder=tmp_path)
