"""What scripts and shells use: --version, -h, --json, names of runs in place of paths."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import call
from support.prepared_recipe import prepared_recipe
from typer.main import get_command
from typer.testing import CliRunner

import lomix_search
from lomix_search.cli import app
from lomix_search.experiments.run import run_recipe
from lomix_search.recipe.recipe import load_recipe


def read(*arguments: str) -> Any:
    """Return what a command prints to stdout, as a script would read it: progress goes elsewhere."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_version_and_short_help() -> None:
    assert call("--version").split() == ["lomix-search", lomix_search.__version__]
    assert call("-h") == call("--help") and "--install-completion" in call("-h")
    assert "--seeds" in call("compare", "-h") and "best" in call("tune", "-h")


def test_help_shows_every_default() -> None:
    """rich would take ``[default: …]`` in a help text for markup, and show nothing."""
    said = "".join(call("run", "-h").split()), "".join(call("tune", "run", "-h").split())
    assert "(default:runs/<recipe>)" in said[0].replace("│", "") and "finishedtrialsinall(default:" in said[1].replace(
        "│", ""
    )
    help_texts = [parameter.help or "" for command in commands(get_command(app)) for parameter in command.params]
    assert len(help_texts) > 100 and not [text for text in help_texts if "[default" in text]


def commands(group: Any) -> Iterator[Any]:
    for command in group.commands.values():
        yield from commands(command) if hasattr(command, "commands") else [command]


def test_what_ships_as_json() -> None:
    found = read("ls", "--json")
    assert set(found) == {"recipes", "search_spaces"} and "chest_ct" in found["recipes"]


def test_a_space_and_a_recipes_data_as_json() -> None:
    found = read("show", "mutation", "--stages", "3", "--json")
    assert found["count"] == 7 == len(found["maps"]) and found["maps"][0] == "P1"
    checked = read("validate", "chest_ct", "--json")
    assert {one["name"]: one["patients"] for one in checked["sets"]} == {"train": 1, "val": 1, "test": 1}
    assert checked["faults"] == [] and "one patient validates" in checked["warnings"][0]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs in ``runs``, where they go by default."""
    home = tmp_path_factory.mktemp("home")
    run_recipe(load_recipe(prepared_recipe(home), ["search.steps=2"]), home / "runs/one")
    shutil.copytree(home / "runs/one", home / "runs/two")
    return home


@pytest.mark.slow
def test_a_name_stands_for_a_run_and_json_tells_what_the_tables_tell(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    runs = {Path(run["folder"]).name: run for run in read("runs", "--json")}
    assert {name: run["state"] for name, run in runs.items()} == {"one": "finished", "two": "finished"}
    (scores,) = read("evaluate", "one", "--json").values()
    assert scores["cases"] == 2 and set(scores["classes"]["dice"]) == {"one", "two"}
    assert scores["interval"]["dice"][0] <= scores["mean"]["dice"] <= scores["interval"]["dice"][1]
    told = read("diff", "one", "two", "--json")
    assert told["runs"] == ["one", "two"] and not told["settings"]
    assert told["weights"][0]["runs"] == ["one", "two"] and told["weights"][0]["top_8_shared"] == 1
    assert told["metrics"]["steps"] == [2, 2]
    strongest = read("show", "one", "--top", "1", "--json")["maps"][0]
    assert strongest["rank"] == 1 and 0 < strongest["share"] < 1
    assert call("show", "one") == call("show", "runs/one/mixture.json")
    whole, first = call("show", "one").splitlines(), call("show", "one", "--top", "1").splitlines()
    assert first == [*whole[: len(first) - 1], whole[-1]], "shares are those of all maps"
    again = read("reproduce", "one", "--json")
    assert again["matched"] is True and again["again"] == "runs/one-again", "and no step of the run in between"
    assert call("runs", "compare", "one", "two") == call("diff", "one", "two")


@pytest.mark.slow
def test_what_is_run_is_told_as_what_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = str(prepared_recipe(tmp_path))
    told = read("run", recipe, "search.steps=2", "--folder", "runs/one", "--json")
    (listed,) = read("runs", "--json")
    assert {key: told[key] for key in listed} == listed and told["metrics"]["test.dice.final"] is not None
    assert told["mixture"] == read("show", "one", "--json")
    final, scored = told["test"]["final"], read("evaluate", "one", "--json")["runs/one"]
    assert final["step"] == 2 and final["cases"] == scored["cases"] == 2
    assert final["mean"]["dice"] == pytest.approx(scored["mean"]["dice"])
    assert set(final["classes"]["dice"]) == set(scored["classes"]["dice"]) == {"one", "two"}
    again = read("train", "one", "--mixture", "one", "--top", "2", "--folder", "runs/again", "--json")
    kept = [one["id"] for one in told["mixture"]["maps"][:2]]
    assert again["state"] == "finished" and [one["id"] for one in again["mixture"]["maps"]] == kept
    parts = read("run", recipe, "search.steps=2", "--label-fraction", "0.5,1", "--folder", "runs/parts", "--json")
    assert parts["label_fractions"]["1"]["metrics"] == told["metrics"]
    folds = read("run", recipe, "search.steps=2", "--folds", "2", "--folder", "runs/folds", "--json")
    assert folds["folds"] == 2 and folds == {
        "folder": "runs/folds",
        **json.loads(Path("runs/folds/folds.json").read_text()),
    }


@pytest.mark.slow
def test_inspect_as_json() -> None:
    given = ["spatial_dims=2", "features=[4,4,8,8,8,4]", "--example", "1,1,32,32"]
    found = read("inspect", "monai.networks.nets:BasicUNet", *given, "--json")
    assert [one["name"] for one in found] == ["upcat_4", "upcat_3", "upcat_2", "upcat_1"]
    assert found[-1]["size"] == [32, 32] and found[0]["stride"] == [8, 8]
