"""The tree: which commit of the suite ran, and that nothing in it was changed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A commit, and what differs from it; `commit` is empty where the folder is no checkout of git."""

    commit: str = ""
    changed: tuple[str, ...] = ()

    @property
    def complaint(self) -> str:
        """Why it cannot be said which code ran; empty where it can."""
        if not self.commit:
            return "The suite is no git checkout, so nobody can tell whether it was changed: clone its repository."
        if self.changed:
            more = f" and {len(self.changed) - 1} more" if len(self.changed) > 1 else ""
            return f"The suite was changed: {self.changed[0]}{more} differs from commit {self.commit[:12]}."
        return ""


def tree(folder: Path = Path(__file__).parents[2]) -> Tree:
    """The state of the checkout that `folder` is the top of; files that git ignores do not count."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit or _git(folder, "rev-parse", "--show-prefix"):
        return Tree()
    status = _git(folder, "status", "--porcelain") or ""
    return Tree(commit=commit, changed=tuple(line.split(maxsplit=1)[1] for line in status.splitlines()))


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
