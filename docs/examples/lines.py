"""Lines that somebody writes for shardproof, way by way, counted in the examples: `python docs/examples/lines.py`.

A line counts if it has code on it. One is for shardproof if it is part of a statement that uses something of
`conformance`, of a class that derives from it, or of a test; everything else somebody has anyway.
"""

from __future__ import annotations

import ast
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
WAYS = {  # way in -> its examples
    "a function in one's own test (JAX)": ("test_function_jax.py",),
    "a function in one's own test (torch)": ("test_function_torch.py",),
    "torch DTensor": ("test_torch_dtensor.py",),
    "FSDP2": ("test_fsdp2.py",),
    "Flax NNX": ("test_flax_nnx.py",),
    "a trainer with collectives of its own": ("test_explicit_collectives.py",),
    "a class in the manner of Megatron": ("test_megatron_style.py",),
    "one's own trainer, captured (torch)": ("trainer_torch/train.py", "trainer_torch/model.py",
                                            "trainer_torch/parallelize.py"),
    "one's own trainer, captured (JAX)": ("trainer_jax/train.py",),
    "an implementation of a contract (JAX)": ("mlp_jax.py",),
    "an implementation of a contract (torch)": ("mlp_torch.py",),
}  # fmt: skip


def table() -> str:
    """As Markdown."""
    rows = ["| way in | example | lines of the program | lines for shardproof |", "| --- | --- | --- | --- |"]
    for way, files in WAYS.items():
        counts = [counted(HERE / file) for file in files]
        whole, ours = sum(whole for whole, _ in counts), sum(ours for _, ours in counts)
        rows.append(f"| {way} | `docs/examples/{files[0]}` | {whole - ours} | {ours} |")
    return "\n".join(rows)


def counted(file: Path) -> tuple[int, int]:
    """Lines with code in a file, and those of them that are for shardproof."""
    module = ast.parse(file.read_text())
    code, ours = _with_code(file) - set(_documentation(module)), set(_ours(module.body, _imported(module)))
    return len(code), len(code & ours)


def _ours(body: list[ast.stmt], names: set[str]) -> Iterator[int]:
    for statement in body:
        if _is_whole(statement, names):
            yield from range(statement.lineno, statement.end_lineno + 1)
            continue
        inner = [field for field in ("body", "orelse", "finalbody") if getattr(statement, field, None)]
        if not inner:
            continue
        first = getattr(statement, inner[0])[0].lineno
        heads = [node for node in ast.iter_child_nodes(statement) if not isinstance(node, ast.stmt)]
        if any(_uses(head, names) for head in heads):
            yield from range(statement.lineno, first)
            names = names | {node.id for head in heads for node in ast.walk(head) if _is_bound(node)}
        for field in inner:
            yield from _ours(getattr(statement, field), names)


def _is_whole(statement: ast.stmt, names: set[str]) -> bool:
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return any(_of_shardproof(statement, alias) for alias in statement.names)
    if isinstance(statement, ast.ClassDef):
        return any(_uses(base, names) for base in statement.bases)
    if isinstance(statement, ast.FunctionDef):
        return statement.name.startswith("test_")
    return not hasattr(statement, "body") and _uses(statement, names)


def _imported(module: ast.Module) -> set[str]:
    """The names under which a file has something of shardproof, `conformance` itself for one."""
    imports = (node for node in ast.walk(module) if isinstance(node, (ast.Import, ast.ImportFrom)))
    return {alias.asname or alias.name for node in imports for alias in node.names if _of_shardproof(node, alias)}


def _of_shardproof(statement: ast.Import | ast.ImportFrom, alias: ast.alias) -> bool:
    module = statement.module if isinstance(statement, ast.ImportFrom) else alias.name
    return str(module).partition(".")[0] == "conformance"


def _uses(node: ast.AST, names: set[str]) -> bool:
    return any(isinstance(each, ast.Name) and each.id in names for each in ast.walk(node))


def _is_bound(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _with_code(file: Path) -> set[int]:
    none = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    with tokenize.open(file) as opened:
        tokens = [token for token in tokenize.generate_tokens(opened.readline) if token.type not in none]
    return {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}


def _documentation(module: ast.Module) -> Iterator[int]:
    for node in ast.walk(module):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            yield from range(node.body[0].lineno, node.body[0].end_lineno + 1)


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
