"""Commands on recipes: list, copy, check."""

from pathlib import Path

import pytest
from support.commands import call, failing

from lomix_search.mixture.space import SearchSpace
from lomix_search.recipe.recipe import load_recipe


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")


def test_ls_lists_recipes_and_spaces() -> None:
    output = call("ls")
    assert "chest_ct" in output
    assert all(name in output for name in ("last_layer", "deep_supervision", "mutation", "lomix", "extended"))


def test_cp_copies_what_runs_and_never_overwrites(capfd: pytest.CaptureFixture[str]) -> None:
    assert call("cp", "chest_ct", "my own") == "copied to my own\nnext: lomix validate 'my own'\n"
    assert load_recipe("my own").model_copy(update={"name": "chest_ct"}) == load_recipe("chest_ct")
    call("cp", "lomix", "my own")
    assert SearchSpace.load("my own/lomix.toml") == SearchSpace.load("lomix")
    call("cp", "chest_ct", "my own")
    assert "my own/chest_ct exists already; nothing was copied." in failing(capfd, "cp", "chest_ct", "my own")
    assert 'no shipped recipe or space "lomx". Nearest: "lomix"' in failing(capfd, "cp", "lomx")


def test_validate() -> None:
    assert "one patient validates" in call("validate", "chest_ct")
