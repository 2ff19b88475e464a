"""Every way to cheat with the files of a package is refused with its reason."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from conformance.qualify.derived import manifest
from conformance.qualify.package import CASES, COMMAND, FILES, MANIFEST, REPORT, STATEMENT, WAIVERS
from tests.qualify.conftest import Forger


def _remade(given: dict[str, bytes], **changed: bytes) -> dict[str, bytes]:
    made = given | changed
    return made | {MANIFEST: manifest({name: made[name] for name in FILES[:-1]})}


def replaced(name: str, before: bytes, after: bytes) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def edit(given: dict[str, bytes]) -> dict[str, bytes]:
        assert before in given[name]
        return _remade(given, **{name: given[name].replace(before, after, 1)})

    return edit


FILE_CHEATS: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "a figure edited in the file": (
        lambda given: given | {CASES: given[CASES].replace(b'"compared":', b'"compared":9', 1)},
        "The manifest does not fit the files",
    ),
    "a statement that says more": (
        replaced(STATEMENT, b'"qualifies": false', b'"qualifies": true'),
        "'statement.json' is not what follows from the records.",
    ),
    "two files swapped": (
        lambda given: _remade(given, **{STATEMENT: given["suite.json"], "suite.json": given[STATEMENT]}),
        "'suite.json' is not what follows from the records.",
    ),
    "a script in the report": (
        replaced(REPORT, b"</body>", b"<script>fetch('//x')</script></body>"),
        "'report.html' is not what follows from the records.",
    ),
    "code for records": (lambda given: _remade(given, **{CASES: pickle.dumps(print)}), "is refused: it is no JSON"),
    "a key twice": (
        replaced(CASES, b'"verdict":"pass"', b'"verdict":"fail","verdict":"pass"'),
        "the key 'verdict' stands in it twice.",
    ),
    "a key that is none": (replaced(CASES, b'"seed":0', b'"seed":0,"note":"x"'), "it says more or less."),
    "NaN as a number": (replaced(CASES, b'"failed":0', b'"failed":NaN'), "NaN is no number of JSON."),
    "infinity as a number": (replaced(CASES, b'"seconds":', b'"seconds":-Infinity,"x":'), "-Infinity is no number"),
    "infinity by its digits": (replaced(CASES, b'"seconds":', b'"seconds":1e999,"x":'), "1e999 is beyond"),
    "nesting without end": (
        lambda given: _remade(given, **{WAIVERS: b"[" * 10**5 + b"]" * 10**5}),
        "'waivers.json' is",
    ),
    "a claim in the command": (replaced(COMMAND, b'"version"', b'"extra": 1, "version"'), "'command.json' is not what"),
}


@pytest.mark.parametrize("cheat", FILE_CHEATS)
def test_a_cheat_in_the_files_is_refused(forger: Forger, cheat: str) -> None:
    edit, said = FILE_CHEATS[cheat]
    assert said in forger.refusal(edit(forger.files))
