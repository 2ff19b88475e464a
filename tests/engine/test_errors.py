"""What shardproof raises: one base class, so that a caller needs one `except`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import conformance
from conformance import ShardproofError
from conformance.cases.usage import UsageError
from conformance.contract.mesh import Mesh, MeshError
from conformance.records.files import WriteFailed
from conformance.workers.connections import WorkerFailed

OTHERS = ("ShardproofError", "NotAsExpected", "_TooLong")  # the base, what pytest is told, and a jump inside a file


def test_every_class_that_is_raised_has_the_base() -> None:
    direct = []
    for file in Path(conformance.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                if bases & {"Exception", "ValueError", "RuntimeError", "TypeError"} and "ShardproofError" not in bases:
                    direct.append(node.name)
    assert sorted(direct) == sorted(OTHERS)


def test_a_bad_mesh_is_still_a_value_error() -> None:
    for kind in (ShardproofError, MeshError, ValueError):
        with pytest.raises(kind, match="write axis=size"):
            Mesh.parse("tensor")


def test_what_was_asked_for_is_status_2_and_what_failed_is_1() -> None:
    assert (UsageError.status, MeshError.status) == (2, 2)
    assert (WriteFailed.status, WorkerFailed.status) == (1, 1)
