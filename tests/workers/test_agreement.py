"""Cases on emulated devices beside a single one: what is alike, refused or different, and a command that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.agreement import __main__ as command
from conformance.agreement.compared import Compared, Judged
from conformance.agreement.table import PAGE, page, read
from conformance.cases.case import Case
from conformance.contract.mesh import Mesh
from tests.workers.conftest import needs

RIGHT = {"logic": "pass", "memory": "pass"}


def compared(verdict: str, checks: dict[str, str], reason: str = "") -> Compared:
    emulated = Judged(verdict="pass", checks=RIGHT, reason="", seconds=1.0)
    single = Judged(verdict=verdict, checks=checks, reason=reason, seconds=2.0)
    return Compared(case="tensor/mlp[jax-shard_map-tensor2-float64]", emulated=emulated, single=single)


def test_alike_refused_and_different() -> None:
    fewer = compared("pass", {"logic": "pass"})
    assert (fewer.alike, fewer.unheld) == (True, ("memory",))
    other = compared("pass", RIGHT | {"logic": "unsupported"})
    assert (other.alike, other.refused, other.differing) == (False, False, ("logic",))
    refused = compared("unsupported", {}, "Nothing would be divided.")
    assert (refused.alike, refused.refused) == (False, True)
    failed = compared("fail", RIGHT | {"logic": "fail"})
    assert not failed.alike
    assert not failed.refused
    said = page([fewer, other, refused, failed], {"tensor": 5})
    assert "| tensor | 5 | 4 | 1 | 1 | 2 | 1.0 | 2.0 |" in said
    assert "* Nothing would be divided." in said
    assert "* memory" in said
    assert f"* `{failed.case}`: pass and fail (logic)." in said


def test_the_command_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("jax")
    mesh = Mesh.parse("data=2,tensor=2")
    divided, automatic = (
        Case(contract="tensor/mlp", implementation=f"jax-{name}", mesh=mesh, dtype="float64")
        for name in ("shard_map", "automatic")
    )
    monkeypatch.setattr(command, "_core", lambda: {"tensor": [divided]})
    assert command.main([str(tmp_path)]) == 0
    [first] = read(tmp_path)
    assert (first.emulated.verdict, first.alike) == ("pass", True)
    monkeypatch.setattr(command, "_core", lambda: {"tensor": [divided, automatic]})
    assert command.main([str(tmp_path)]) == 0
    refused, again = read(tmp_path)
    assert again == first, "what was judged is not judged again"
    assert refused.refused
    assert "| tensor | 2 | 2 | 1 | 1 | 0 |" in (tmp_path / PAGE).read_text()
