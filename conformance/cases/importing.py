"""Importing: somebody's own file as the module that it is, and never one of their files in place of a standard module.

Folders of theirs come behind the standard library, wherever Python itself would have put them; behind installed
packages too where they hold a file that is named like one that we build on.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, invalidate_caches
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

FOLDERS = "SHARDPROOF_FOLDERS"  # environment of our processes: the folders from which their parent imports
BUILT_ON = ("numpy", "scipy", "ml_dtypes", "jax", "jaxlib", "flax", "optax", "torch", "psutil", "pydantic")
_LIBRARY = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
_RELATIVE = re.compile(r"relative import")
_standard: dict[str, ModuleType] = {}  # standard modules that ours have imported under names that a user's file has too

OURS = ("reference", "suites")  # packages of ours that people have too
_HOME = str(Path(__file__).resolve().parents[2])


def module_at(file: Path, name: str = "") -> ModuleType:
    """The module of a file, imported under the name that it has in its package, or under one of its own.

    name  what another process imported it as, where that is known; only a hint
    Raises what the file raises.
    """
    file = file.resolve()
    module = _by_name(name, file) if name else None
    if module is not None:
        return module
    depth = max(_packages_above(file), name.count("."))
    while depth == 0 or len(file.parents) > depth:
        try:
            return _in_package(file, depth) if depth else _alone(file)
        except ImportError as failure:
            if _RELATIVE.search(str(failure)) is None or len(file.parents) <= depth + 1:
                raise
            depth += 1  # a package without __init__.py: how deep, only its imports tell
    return _alone(file)


def module_named(name: str) -> ModuleType:
    """The module of that name: under the names of our own packages ours, whatever lies in a folder that comes first."""
    if name.partition(".")[0] in OURS:
        take_ours()
    return import_module(name)


def take_ours() -> None:
    """Import our own packages, before another one of their name is; what is imported already stays what it is."""
    for name in OURS:
        spec = PathFinder.find_spec(name, [_HOME]) if name not in sys.modules else None
        if spec is not None:
            _executed(spec)


def add_folder(folder: Path | str) -> None:
    """Modules of this folder can be imported from now on."""
    if str(folder) not in sys.path:
        behind = len(sys.path) if _names(str(folder)) & set(BUILT_ON) else _behind_library()
        sys.path.insert(behind, str(folder))
        invalidate_caches()


def environment() -> dict[str, str]:
    """For a process of ours: it finds this package, and hears from which folders this process imports."""
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and not _shadowed(entry)]
    ours = [] if _is_installed() else [_HOME]
    folders = [folder or os.getcwd() for folder in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(ours + given), FOLDERS: os.pathsep.join(folders)}


def take_folders() -> None:
    """In a process of ours, when it has imported what it needs itself: the folders of its parent, in their order."""
    if _HOME in sys.path and not _is_installed():
        sys.path.remove(_HOME)  # it came first so that this package is found, and holds others whose names people use
    for folder in reversed(os.environ.pop(FOLDERS, "").split(os.pathsep)):
        if folder:
            add_folder(folder)


@contextmanager
def standard_first() -> Iterator[None]:
    """Within, imports find the standard library, whatever lies beside the script; afterwards all is as before."""
    before, library = list(sys.path), _library()
    names = {name for entry in before[: _behind_library()] if entry not in library for name in _shadowed(entry)}
    present = {name: sys.modules[name] for name in names if name in sys.modules}
    for name in present:
        if not _is_standard(name):
            del sys.modules[name]
    sys.modules.update({name: module for name, module in _standard.items() if name in names - sys.modules.keys()})
    sys.path[:] = [entry for entry in before if entry in library] + [entry for entry in before if entry not in library]
    try:
        yield
    finally:
        sys.path[:] = before
        ours = {name: sys.modules.pop(name) for name in names if name in sys.modules}
        _standard.update(ours)
        sys.modules.update(present)


def _by_name(name: str, file: Path) -> ModuleType | None:
    """The module of that name, if it is this file."""
    try:
        spec = find_spec(name)  # imports the packages above it
    except (ImportError, ValueError, AttributeError):
        return None
    if (
        spec is None
        or spec.origin is None
        or not os.path.exists(spec.origin)
        or not os.path.samefile(spec.origin, file)
    ):
        return None
    return import_module(name)


def _packages_above(file: Path) -> int:
    """How many folders above it have an __init__.py, without a gap."""
    depth = 0
    while (file.parents[depth] / "__init__.py").is_file():
        depth += 1
    return depth


def _in_package(file: Path, depth: int) -> ModuleType:
    """A module of a package whose outermost folder is `depth` folders up; other packages may have the same name."""
    root, top = file.parents[depth], file.parents[depth - 1]
    inside = file.relative_to(top).with_suffix("").parts
    inside = inside[:-1] if inside[-1] == "__init__" else inside
    add_folder(root)
    module = _by_name(".".join((top.name, *inside)), file)
    return module if module is not None else import_module(".".join((_alias(top), *inside)))


def _alias(top: Path) -> str:
    """A package under a name of its own, for one whose name is taken."""
    name, first = _own_name(top), top / "__init__.py"
    if name not in sys.modules:
        where = spec_from_file_location(name, first, submodule_search_locations=[str(top)])
        if where is None or not first.is_file():
            where = ModuleSpec(name, None, is_package=True)
            where.submodule_search_locations = [str(top)]
        _executed(where)
    return name


def _alone(file: Path) -> ModuleType:
    """A file that lies in no package; the modules beside it can be imported, as if it had been run."""
    name = _own_name(file.with_suffix(""))
    if name in sys.modules:
        return sys.modules[name]
    add_folder(file.parent)
    spec = spec_from_file_location(name, file)
    if spec is None:
        raise ImportError("it is not a Python file")
    return _executed(spec)


def _executed(spec: ModuleSpec) -> ModuleType:
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    try:
        if spec.loader is not None:
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _own_name(path: Path) -> str:
    return f"{path.name}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"


def _is_installed() -> bool:
    """Whether this package lies among those of the interpreter, and not in a folder of its own."""
    return _HOME in map(sysconfig.get_path, ("purelib", "platlib"))


def _library() -> set[str]:
    """Entries of the path that are the standard library: its folder, its zip file, its compiled modules."""
    zipped = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    return {e for e in sys.path if e in _LIBRARY or e.endswith((zipped, "lib-dynload"))}


def _behind_library() -> int:
    library = _library()
    return 1 + max((number for number, entry in enumerate(sys.path) if entry in library), default=-1)


def _names(folder: str) -> set[str]:
    """Top-level modules of a folder, less packages without __init__.py, which give way to all others."""
    try:
        entries = list(os.scandir(folder or "."))
    except OSError:
        return set()
    files = {entry.name.partition(".")[0] for entry in entries if entry.name.endswith((".py", ".so"))}
    return files | {entry.name for entry in entries if os.path.isfile(os.path.join(entry.path, "__init__.py"))}


def _shadowed(folder: str) -> set[str]:
    return _names(folder) & sys.stdlib_module_names


def _is_standard(name: str) -> bool:
    file = getattr(sys.modules[name], "__file__", None)
    return file is None or any(file.startswith(f"{folder}{os.sep}") for folder in _library())


def shadowing(failure: BaseException) -> str:
    """A sentence where what was not found may be in the other one of two packages with the name of one of ours."""
    missing = getattr(failure, "name", None) or getattr(getattr(failure, "obj", None), "__name__", None) or ""
    top = str(missing).partition(".")[0]
    module = sys.modules.get(top)
    if top not in OURS or module is None:
        return ""
    where = [str(Path(path).resolve()) for path in getattr(module, "__path__", [])]
    if str(Path(_HOME, top)) not in where:
        there = " and ".join(where)
        return f" The package '{top}' is imported from {there}, which shadows ours of that name: rename it."
    theirs = [folder for folder in (str(Path(entry).resolve()) for entry in sys.path) if top in _names(folder)]
    there = next((folder for folder in theirs if folder != _HOME), "")
    return f" The package '{top}' is ours, which shadows the one in {there}: rename that." if there else ""
