"""The line that is named is the user's own, wherever the exception was raised or wrapped."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from conformance.cases.raised import said, sentence, stack


def _raised(raise_it: str, tmp_path: Path) -> BaseException:
    file = tmp_path / "theirs.py"
    file.write_text(raise_it)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its words are the matter of the tests
        exec(compile(raise_it, str(file), "exec"), {})
    return caught.value


def test_the_innermost_own_line_is_named(tmp_path: Path) -> None:
    failure = _raised("import json\njson.loads('{')", tmp_path)
    assert "theirs.py:2, `json.loads('{')`)" in sentence(failure)


def test_a_cause_without_a_line_of_theirs_does_not_hide_it(tmp_path: Path) -> None:
    failure = _raised("cause = ValueError('inside')\nraise ValueError('outside') from cause", tmp_path)
    assert "theirs.py:2" in sentence(failure)


def test_the_line_of_the_cause_is_named_where_others_wrapped_it(tmp_path: Path) -> None:
    failure = ValueError("the library says")
    failure.__cause__ = _raised("raise ValueError('first line.\\nsecond')", tmp_path)
    assert "theirs.py:1" in sentence(failure)


def test_a_folder_whose_name_begins_like_a_library_s_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = tmp_path / "site-packages-of-mine"
    beside.mkdir()
    monkeypatch.setattr(
        "conformance.cases.raised._OTHERS", (Path(sysconfig.get_path("stdlib")), tmp_path / "site-packages")
    )
    assert "theirs.py:1" in sentence(_raised("raise ValueError('here')", beside))


def test_what_was_said_is_one_line(tmp_path: Path) -> None:
    assert said(_raised("raise ValueError('first line.\\nsecond')", tmp_path)) == "ValueError: first line"
    assert said(KeyError()) == "KeyError"


def test_a_message_as_long_as_a_program_is_cut() -> None:
    program = "\n".join(f"%{number} = add" for number in range(200))
    try:
        raise ValueError(f"Cannot lower:\n{program}")
    except ValueError as failure:
        told, traced = sentence(failure), stack(failure)
    assert told.startswith("ValueError: Cannot lower:\n%0 = add\n%1 = add\n%2 = add\n... and 197 more lines (at ")
    assert "... and 189 more lines" in traced
    assert "%150" not in traced
