"""Pages: every command and snippet of them is run, here or by a test that is named, or stands here with the reason."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from people_records import broken, case, failing, passing, write

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))))

INSTALLS = "makes an environment from a package index"
EXAMPLES = "tests/strangers/test_ways_in.py::test_a_function_of_ones_own_conforms"
JAX_TRAINER = "tests/capture/test_trainers.py::test_one_command_launches_several_meshes_and_prints_one_table"
WORLD = "tests/workers/test_world.py::test_a_process_that_is_killed_costs_one_case_and_the_run_goes_on_later"
LONG = "takes minutes to hours; its parts have tests"
ELSEWHERE = {  # how a command or a snippet begins -> the test that runs it, or why none does
    "python3 -m venv": INSTALLS,
    "python3 -m pip": INSTALLS,
    "git clone": "needs a chip; the same commands on emulated devices are the dry run of the page",
    ".venv/bin/asv": "measures for minutes, and is run by hand for results/asv",
    "git worktree add": "checks another commit out, for asv",
    "ASV_PYTHONPATH=": "measures for minutes, and is run by hand for results/asv",
    "pytest tests/benchmarks": "runs tests, and those of the multiples are run once by every run of all tests",
    ". .venv/bin/activate": "sets the shell up",
    "Every verdict follows": "tests/qualify/test_commands.py::test_the_dry_run_of_the_page",
    "shardproof qualify": "tests/qualify/test_commands.py::test_the_dry_run_of_the_page",
    "[[expected]]": "tests/qualify/test_commands.py::test_the_expectations_of_the_page_are_read",
    "shardproof run --contract tensor/mlp --implementation": "tests/strangers/test_ways_in.py::"
    "test_an_implementation_of_ones_own_conforms",
    "shardproof power --contract tensor/mlp": "tests/strangers/test_ways_in.py::"
    "test_what_its_own_tests_would_have_missed_is_planted_and_seen",
    "shardproof power tensor": LONG,
    "shardproof scale": LONG,
    "shardproof plan": "tests/planner/test_plan_command.py::"
    "test_what_is_predicted_to_fit_is_ranked_and_the_best_is_compiled",
    "shardproof fuzz": "tests/strangers/test_fuzz.py::test_a_bug_of_odd_widths_alone",
    "shardproof run --devices real": WORLD,
    "JAX_PROCESS_ID=": WORLD,
    "@pytest.mark.shardproof(": "tests/strangers/test_matrices.py::"
    "test_the_marker_of_the_page_makes_a_test_of_every_mesh_and_dtype",
    "shardproof record": JAX_TRAINER,
    "python docs/examples/trainer_jax": JAX_TRAINER,
    "shardproof judge": JAX_TRAINER,
    "pytest docs/examples/": EXAMPLES,
    "torchrun": "tests/capture/test_torch_trainer.py::"
    "test_a_torch_trainer_passes_and_its_faults_are_killed_with_their_axis",
    "with conformance.capture(": JAX_TRAINER,
    "placements = {": "tests/capture/test_torch_capture.py::"
    "test_megatrons_attributes_and_patterns_say_where_a_parameter_lies",
    "names = {": "tests/capture/test_names.py::test_patterns",
    "tensor/mlp~ffn": "the id of a case",
    '{"parts":': "a file's contents",
    "shardproof doctor": "starts both frameworks, which takes half a minute",
    "def abstract(self, mesh)": "a signature",
}
QUOTED = {  # a snippet that is part of a file -> the file
    "class BiasAddedOnEveryRank": "suites/tensor/faults",
    "def reference(parameters, batch)": "docs/examples/test_function_jax.py",
    "def tensor_parallel(model, batch, mesh)": "docs/examples/test_torch_dtensor.py",
    "def test_tensor_parallel()": "docs/examples/test_torch_dtensor.py",
    "def declared(mesh, dtype)": "docs/examples/test_explicit_collectives.py",
    "def shard(parameter, dim, mesh)": "docs/examples/test_megatron_style.py",
    "class Trainer:": "docs/examples",
}
FROM_ELSEWHERE = re.compile(r"<(?:script|img|iframe)[^>]+src=\"(https?:[^\"]+)|<link[^>]+href=\"(https?:[^\"]+)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def _blocks() -> Iterator[tuple[str, str, str]]:
    for page in PAGES:
        for language, text in FENCE.findall((ROOT / page).read_text()) if page != "docs/contracts.md" else ():
            yield page, language, text


def _commands() -> list[str]:
    """Every line of the shell blocks, without its remark."""
    lines = (line for _, language, text in _blocks() if language == "sh" for line in text.splitlines())
    return list(dict.fromkeys(line.partition(" #")[0].strip() for line in lines))


def _elsewhere(text: str) -> str | None:
    return next((where for start, where in ELSEWHERE.items() if text.startswith(start)), None)


HERE = [command for command in _commands() if _elsewhere(command) is None]
SNIPPETS = [(page, text) for page, language, text in _blocks() if language != "sh" and _elsewhere(text) is None]


@pytest.mark.parametrize("command", HERE)
def test_a_command_of_a_page_works(shardproof, fake_run, here: Path, command: str) -> None:
    write(here / "RESULTS", [passing(case())])
    write(here / "BEFORE", [failing(case()), passing(case(mesh="tensor=2"))])
    write(here / "AFTER", [passing(case()), passing(case(mesh="tensor=2"))])
    fake_run.judge = lambda judged: passing(judged) if judged.expect == "pass" else broken(judged, "unsupported")
    program, *words = shlex.split(command)
    assert program == "shardproof", "no test runs this: say in ELSEWHERE which one does, or why none can"
    done = shardproof(*words)
    assert done.exit_code == 0, done.output
    assert done.stdout


@pytest.mark.parametrize(("page", "text"), SNIPPETS, ids=[page for page, _ in SNIPPETS])
def test_a_snippet_of_a_page_works_or_is_part_of_a_file(page: str, text: str) -> None:
    file = next((file for start, file in QUOTED.items() if text.startswith(start)), None)
    if file is None:
        exec(compile(text, page, "exec"), {"__name__": page})  # a snippet asserts what it shows
        return
    path = ROOT / file
    sources = [path] if path.is_file() else sorted(path.glob("*.py"))
    for part in text.strip().split("\n\n\n"):
        assert any(part in source.read_text() for source in sources), f"{page} quotes what {file} does not say"


@pytest.mark.parametrize("where", sorted({where for where in ELSEWHERE.values() if "::" in where}))
def test_what_runs_a_command_elsewhere_is_there(where: str) -> None:
    file, _, name = where.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text()


def test_no_exception_is_left_over() -> None:
    texts = [*_commands(), *(text for _, language, text in _blocks() if language != "sh")]
    unused = [start for start in (*ELSEWHERE, *QUOTED) if not any(text.startswith(start) for text in texts)]
    assert unused == []
    assert HERE
    assert SNIPPETS


def test_the_site_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    """Built as `tox run -e docs` does: every link leads somewhere, and no page loads a script, style or font."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path / "site")))
    pages = sorted((tmp_path / "site").glob("*.html"))
    assert {"index.html", "qualification.html", "judgement.html"} <= {page.name for page in pages}
    for page in pages:
        assert FROM_ELSEWHERE.findall(page.read_text()) == [], page.name
