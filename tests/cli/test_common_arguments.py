"""Commands that only read work on a disk that can only be read, and every option refuses what it cannot mean."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.tiny_recipe import tiny, write_tiny
from typer.testing import CliRunner

from lomix_search.cli import app, main
from lomix_search.errors import LomixError, RecipeError, RunError
from lomix_search.experiments.run import run_recipe
from lomix_search.recipe.recipe import home_of, load_recipe

HUGE = "9" * 25


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run and its recipe on a file system that is mounted to be read only: root may write through file modes."""
    disk = tmp_path_factory.mktemp("closed")
    run_recipe(tiny(disk / "recipe"), disk / "run")
    shutil.copytree(disk / "run", disk / "other")
    bound = subprocess.run(["mount", "--bind", str(disk), str(disk)], capture_output=True).returncode == 0
    if not bound:
        pytest.skip("no right to mount here")
    subprocess.run(["mount", "-o", "remount,ro,bind", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
def test_reading_commands_work_where_nothing_can_be_written(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(closed)
    with pytest.raises(OSError, match="Read-only"):
        (closed / "x").touch()
    assert "P1" in call("show", "run/mixture.json")
    assert "finished" in call("runs", ".")
    assert "scores and cost" in call("runs", "compare", "run", "other")
    assert "chest_ct" in call("ls")
    call("report", "run", "--out", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").stat().st_size > 1000
    with pytest.raises(RunError, match=r"report.html cannot be written: Read-only file system.\n  Try:  .* --out"):
        call("report", "run")
    said = CliRunner().invoke(app, ["run", "recipe", "--folder", "run", "--resume"])
    assert isinstance(said.exception, RunError) and "run/lock cannot be written: Read-only" in str(said.exception)


@pytest.mark.slow
def test_a_study_is_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    from lomix_search.experiments.tune.opening import open_study

    call(
        "tune", str(write_tiny(tmp_path / "recipe")), "--trials", "1", "--folder", str(tmp_path / "s"), "search.steps=1"
    )
    if subprocess.run(["mount", "--bind", str(tmp_path / "s"), str(tmp_path / "s")], capture_output=True).returncode:
        pytest.skip("no right to mount here")
    subprocess.run(["mount", "-o", "remount,ro,bind", str(tmp_path / "s")], check=True)
    try:
        assert "1 complete" in call("tune", "best", str(tmp_path / "s"))
        assert len(open_study(tmp_path / "s")[0].trials) == 1
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "s")], check=True)


@pytest.mark.parametrize(
    "given",
    [
        ["show", "lomix", "--stages", "40"], ["show", "lomix", "--stages", HUGE], ["show", "lomix", "--stages", "-1"],
        ["show", "lomix", "--top", "-1"], ["show", "lomix", "--top", "0"], ["evaluate", "run", "--overlays", "-1"],
        ["train", "chest_ct", "--top", "0"], ["tune", "chest_ct", "--trials", HUGE], ["rank", "run", "--top", "0"],
        ["tune", "chest_ct", "--heartbeat", HUGE], ["prepare", "acdc", "a", "b", "--size", "-1"],
        ["prepare", "acdc", "a", "b", "--size", HUGE], ["prepare", "acdc", "a", "b", "--workers", "0"],
        ["show", "lomix", "--stages", "[/x]"],
    ],
)  # fmt: skip
def test_numbers_out_of_all_bounds_are_refused_by_the_option(given: list[str]) -> None:
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2 and given[-2] in result.output


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["inspect", "torch.nn:Identity", "--example", "1,1,-5,5"], "every size is at least 1"),
        (["inspect", "torch.nn:Identity", "--example", f"1,1,{HUGE}"], "every size is at least 1"),
        (["inspect", "torch.nn:Identity", "--example", "9" * 5000], "is no shape"),
        (["inspect", "torch.nn:Identity", "x"], "is no argument of"),
        (["inspect", "torch.nn:Identity", "--example", "1,1,8,8", "--stages", "a,,b"], "empty entry"),
        (["compare", "chest_ct", "--seeds", HUGE], "at most 1000 are compared"),
        (["compare", "chest_ct", "--label-fraction", "nan"], "lies outside"),
        (["run", "chest_ct", "--label-fraction", "nan"], "lies outside"),
        (["run", "chest_ct", "--label-fraction", "0.5,0"], "--label-fraction 0: lies outside"),
        (["run", "chest_ct", "--label-fraction", "0.5,0.50"], "names a part twice"),
        (["run", "chest_ct", "--label-fraction", "1,,0.5"], "is no list of numbers"),
        (["run", "r" * 5000], "neither shipped nor a file"),
        (["new", "a", "--images", "b", "--masks", "c", "--classes", "liver,,lung"], "empty entry"),
        (["prepare", "acdc", "a", "b", "--labels", "'liver"], "quote that is not closed"),
    ],
)  # fmt: skip
def test_values_that_mean_nothing_are_refused_in_words(given: list[str], text: str) -> None:
    with pytest.raises(LomixError, match=text) as caught:
        CliRunner().invoke(app, given, catch_exceptions=False)
    assert len(str(caught.value)) < 600


def test_files_that_cannot_be_written_are_named_without_a_traceback(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["lomix", "cp", "lomix", str(tmp_path / ("f" * 300))])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capfd.readouterr().err
    assert caught.value.code == 2 and f"{'f' * 300}: File name too long." in said.replace("\n", "")


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/x", "a/b", "..", ".", "", " ", ".hidden", "x" * 5000, "ü" * 300, "a\0b", "[/x]"]
)
def test_runs_lie_below_runs_whatever_the_recipe_is_called(name: str, tmp_path: Path) -> None:
    home = home_of(load_recipe("chest_ct").model_copy(update={"name": name}), "-tune")
    assert home.parent == Path("runs") and home.name.endswith("-tune") and len(os.fsencode(home.name)) <= 255
    (tmp_path / home).mkdir(parents=True)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [home.name]
    assert home_of(load_recipe("chest_ct")) == Path("runs/chest_ct")


def test_label_fractions_of_data_that_know_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """chest_ct and functions of one's own have no setting of that name; the search keeps a part of their items."""
    from lomix_search.cli import searches as module

    ran = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "run_recipe", lambda recipe, folder, **_: ran.append((recipe, folder)) or stop())
    for source, key in (("chest_ct", "search"), (str(write_tiny(tmp_path / "r")), "search"), ("acdc", "data")):
        with pytest.raises(KeyboardInterrupt):
            module.sweep_and_show(source, [], ["0.25"], Path("home"), resume=False)
        recipe, folder = ran.pop()
        found = recipe.search.label_fraction if key == "search" else recipe.data.settings["label_fraction"]
        assert (found, folder) == (0.25, Path("home/fraction_0.25"))


def stop() -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_sweep_over_the_tiny_recipe_says_how_many_items_were_used(tmp_path: Path) -> None:
    said = call(
        "run",
        str(write_tiny(tmp_path / "r")),
        "--label-fraction",
        "0.25,1",
        "--folder",
        str(tmp_path),
        "search.steps=1",
    )
    table = said[said.index("share of patients") :].splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:3]] for line in table if line.startswith("│")]
    assert rows == [["0.25", "2"], ["1", "8"]]  # of eight items


def test_unknown_recipes_are_refused_with_a_name_of_bounded_length() -> None:
    with pytest.raises(RecipeError, match="no recipe") as caught:
        load_recipe("x" * 10_000)
    assert len(str(caught.value)) < 500
