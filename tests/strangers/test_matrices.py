"""Several meshes and dtypes of somebody's own function: by one call, and by the marker of the page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import conformance

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "test_function_jax.py"
PAGE = (ROOT / "docs" / "your-function.md").read_text()


def _own_test(body: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The functions of the example with a test that stands in place of its own."""
    source = EXAMPLE.read_text().split("def test_")[0]
    (folder / "test_own.py").write_text(f"{source}import pytest\n\n\n{body}")
    command = [sys.executable, "-m", "pytest", "-q", "test_own.py", "-rA"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=280, check=False)


def test_the_marker_of_the_page_makes_a_test_of_every_mesh_and_dtype(tmp_path: Path) -> None:
    [body] = re.findall(r"```python\n(@pytest.mark.shardproof.*?)```", PAGE, re.DOTALL)
    done = _own_test(body, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = [f"tensor={size}-{dtype}" for size in (2, 4) for dtype in ("float64", "float32")]
    assert re.findall(r"PASSED test_own.py::test_my_sharded_function\[(.*)\]", done.stdout) == cells


def test_a_matrix_is_a_table_and_fails_where_one_case_does(tmp_path: Path) -> None:
    body = """def wrong(parameters, batch, mesh):
    seen = candidate(parameters, batch, mesh)
    return seen | {"gradients/up": seen["gradients/up"] * (2 if mesh.size == 4 else 1)}


def test_matrix():
    matrix = conformance.check_matrix(
        reference=reference, candidate=wrong, parameters=PARAMETERS, batch=BATCH, meshes=["tensor=2", "tensor=4"]
    )
    assert [judgement.passed for judgement in matrix.judgements] == [True, False]
    assert not matrix
    first, second, *_ = str(matrix).splitlines()
    assert first.split()[:3] == ["tensor=2", "float64", "pass,"]
    assert second.split() == ["tensor=4", "float64", "fail"]
    assert "gradients/up" in str(matrix)
"""
    done = _own_test(body, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_matrix_without_cases_has_not_passed() -> None:
    with pytest.raises(ValueError, match="There is nothing to check"):
        conformance.check_matrix(reference=max, candidate=max, parameters={}, batch={}, meshes=[])
