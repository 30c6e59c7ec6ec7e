"""The state of the code that a run starts from."""

import subprocess
from pathlib import Path

import pytest

from lomix_search.training.surroundings import git_state

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def test_git_state_tells_commit_and_changes_apart(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    assert git_state(tmp_path) is None
    git("init")
    assert git_state(tmp_path) is None, "before the first commit"
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    clean = git_state(tmp_path)
    assert clean is not None and len(clean.commit) == 40 and not clean.dirty and clean.changes is None
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/new").touch()
    assert git_state(tmp_path) == clean, "untracked files change nothing"
    (tmp_path / "code.py").write_text("2")
    two = git_state(tmp_path)
    (tmp_path / "code.py").write_text("3")
    three = git_state(tmp_path)
    assert two is not None and three is not None and two.dirty and two.changes != three.changes
