"""A run folder that comes from somebody else: its words are shown and never executed, what is no number is none."""

import json
import shutil
import tomllib
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lomix_search.errors import LomixError
from lomix_search.experiments.report.charts import ChartAxis, Line, chart
from lomix_search.experiments.report.write import write_report
from lomix_search.utils.toml import to_toml

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

EVIL = "x\"'><img src=x onerror=alert(1)></script><script>alert(2)</script>"


class Tags(HTMLParser):
    """Collects what a browser would run or load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.dangerous: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        handlers = [name for name in values if name.startswith("on")]
        if handlers or (tag in ("img", "iframe", "object", "embed") and not str(values.get("src")).startswith("data:")):
            self.dangerous.append(f"<{tag} {values}>")
        if tag == "script":
            self.scripts.append(values)


@pytest.fixture(scope="module")
def run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(finished_run, tmp_path_factory.mktemp("hostile") / "run")
    scores = "protocol,unit,case,patient,class,dice\nstrict,mm,one,one,large,0.5\n"
    (folder / "evaluation/final").mkdir(parents=True, exist_ok=True)
    (folder / "evaluation/final/scores.csv").write_text(scores)
    return folder


def leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: leaves(part, change) for key, part in value.items()}
    return [leaves(part, change) for part in value] if isinstance(value, list) else change(value)


def keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {f"{key}{EVIL}": keys(part) for key, part in value.items()}
    return [keys(part) for part in value] if isinstance(value, list) else value


CHANGES: dict[str, Callable[[Any], Any]] = {
    "texts": lambda v: leaves(v, lambda x: f"{x}{EVIL}" if isinstance(x, str) else x),
    "numbers": lambda v: leaves(v, lambda x: EVIL if isinstance(x, int | float) and not isinstance(x, bool) else x),
    "all": lambda v: leaves(v, lambda x: EVIL),
    "keys": keys,
}


def one_at_a_time(content: Any) -> list[Any]:
    """Return the content once for each leaf, with that one leaf evil, so that no other hides it."""
    count = 0

    def counted(value: Any) -> Any:
        nonlocal count
        count += 1
        return value

    leaves(content, counted)
    found = []
    for wanted in range(min(count, 120)):
        at = iter(range(count))
        found.append(leaves(content, lambda v, at=at, wanted=wanted: EVIL if next(at) == wanted else v))
    return found


def shown(folder: Path) -> str | None:
    """Return the page, or None where it was refused in plain words; anything else is a fault."""
    try:
        page = write_report(folder, folder / "page.html").read_text(encoding="utf-8")
    except LomixError as error:
        assert any(name in str(error) for name in (*FILES, "seen.npz", "scores.csv")), error
        return None
    found = Tags(page)
    assert found.dangerous == []
    assert [s for s in found.scripts if s.get("type") != "application/json"] == [{}]  # the page's own
    return page


def rewrite(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    path = folder / name
    if name.endswith(".toml"):
        path.write_text(to_toml(change(tomllib.loads(path.read_text()))))
    elif name.endswith(".jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(change(line)) + "\n" for line in lines))
    else:
        path.write_text(json.dumps(change(json.loads(path.read_text()))))


FILES = ("recipe.toml", "metrics.jsonl", "mixture.json", "results.json", "status.json", "environment.json")


@pytest.mark.parametrize("name", FILES)
def test_nothing_in_a_file_of_a_run_is_executed(run: Path, tmp_path: Path, name: str) -> None:
    for number, change in enumerate(CHANGES.values()):
        folder = tmp_path / str(number)
        shutil.copytree(run, folder)
        rewrite(folder, name, change)
        shown(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ("results.json", "status.json", "environment.json"))
def test_one_evil_value_among_good_ones_is_not_executed(run: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    content = json.loads((run / name).read_text())
    for start in content.get("starts", ()):  # of the packages a few say as much as all
        start["packages"] = dict(list(start["packages"].items())[:3])
    for evil in one_at_a_time(content):
        (tmp_path / "run" / name).write_text(json.dumps(evil))
        shown(tmp_path / "run")


@pytest.mark.slow
def test_one_evil_value_in_the_log_is_not_executed(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    kinds = {frozenset(json.loads(line)): i for i, line in enumerate(lines)}  # lines of the same keys are read alike
    for i, line in ((i, lines[i]) for i in kinds.values()):
        for content in one_at_a_time(json.loads(line)):
            (tmp_path / "run/metrics.jsonl").write_text("\n".join([*lines[:i], json.dumps(content), *lines[i + 1 :]]))
            assert shown(tmp_path / "run") is not None  # a line that says nothing costs no report


def test_names_in_scores_and_slices_are_not_executed(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    quoted = EVIL.replace('"', '""')
    head, row = f'protocol,unit,case,patient,class,"dice{quoted}"', ",".join([f'"{quoted}"'] * 5)
    scores = tmp_path / "run/evaluation/final/scores.csv"
    scores.write_text(f"{head}\n{row},0.5\n")
    with np.load(run / "seen.npz") as file:
        arrays = dict(file)
    arrays["names"] = np.array([f"{name}{EVIL}" for name in arrays["names"]])
    arrays["classes"] = np.array([f"{name}{EVIL}" for name in arrays["classes"]])
    np.savez(tmp_path / "run/seen.npz", **arrays)
    page = shown(tmp_path / "run")
    assert page is not None and "onerror=alert(1)&gt;" in page  # shown as words
    scores.write_text(f"protocol,unit,case,patient,class,dice\na,b,c,d,e,{EVIL}\n")
    assert shown(tmp_path / "run") is None


def test_shapes_of_slices_that_do_not_fit_are_refused(run: Path, tmp_path: Path) -> None:
    with np.load(run / "seen.npz") as file:
        arrays = dict(file)
    for number, (key, value) in enumerate(
        {
            "truth": arrays["truth"][:1],
            "images": arrays["images"].astype(np.float64),
            "predictions": np.zeros((0, 4, 4), np.uint8),
            "names": arrays["names"][:1],
        }.items()
    ):
        folder = tmp_path / str(number)
        shutil.copytree(run, folder)
        np.savez(folder / "seen.npz", **(arrays | {key: value}))
        assert shown(folder) is None, key


def test_a_page_runs_no_script_but_its_own(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    page = shown(tmp_path / "run")
    assert page is not None
    policy = page.partition('http-equiv="Content-Security-Policy" content="')[2].partition('"')[0]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "unsafe-eval" not in policy


def test_a_chart_of_evil_names() -> None:
    lines = [Line(EVIL, [1, 2], [1.0, 2.0]), Line(f"{EVIL}2", [1], [1.0], group=EVIL)]
    page = chart(EVIL, lines, ChartAxis(EVIL), ChartAxis(EVIL))
    assert Tags(page).dangerous == []


def test_an_archive_that_is_no_archive_of_slices(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    with zipfile.ZipFile(tmp_path / "run/seen.npz", "w") as file:
        file.writestr("names.npy", b"not an array")
    assert shown(tmp_path / "run") is None
