"""The scripts of docs/frameworks, run as their users run them."""

import runpy
import sys
from pathlib import Path

import pytest

from lomix_search.utils.shipped import PACKAGE

pytestmark = [pytest.mark.huggingface, pytest.mark.filterwarnings("ignore")]

FRAMEWORKS = PACKAGE.parent / "docs" / "frameworks"


@pytest.mark.parametrize("name", ["before", "lomix"])
def test_the_scripts_of_the_page(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEPS", "1")
    monkeypatch.setenv("REPORT", str(tmp_path / "report.json"))
    monkeypatch.syspath_prepend(FRAMEWORKS)
    monkeypatch.delitem(sys.modules, "task", raising=False)
    runpy.run_path(str(FRAMEWORKS / f"huggingface_{name}.py"), run_name="__main__")
    assert "dice" in (tmp_path / "report.json").read_text()
