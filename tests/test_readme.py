"""The README's and the docs' code blocks run, in order, in one namespace per page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MADE = ("docs/examples/", "docs/reference/generated/", "docs/reference/errors/")  # by .ci/docs, and not tracked
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if not page.relative_to(ROOT).as_posix().startswith(MADE)]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
        exec(compile(block, str(page), "exec"), namespace)


def test_readme_shows_the_two_commands_and_every_other_command_exists() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text and "make test" in text
    from lomix_search.cli import app

    known = {c.name or (c.callback.__name__ if c.callback else "") for c in app.registered_commands}
    known |= {group.name or "" for group in app.registered_groups}
    assert set(re.findall(r"^lomix (\w+)", text, flags=re.MULTILINE)) <= known


def test_the_repository_names_nothing_it_must_not() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    may = re.compile(r"^tests/support/old_run/")  # a run of some kilobytes, that earlier versions wrote
    wrong = [n for n in tracked if re.search(r"^(runs|wandb)/|\.(pt|ckpt|nii|gz|dcm)$", n) and not may.match(n)]
    assert not wrong


def test_the_page_of_frameworks_shows_the_diffs_of_today() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/frameworks/diffs.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
