"""Names of users come out of every table and line as they are, whatever rich would make of them."""

import io
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from support.places import ROOT
from support.tiny_recipe import PARTS, RECIPE
from typer.testing import CliRunner

from lomix_search.cli import app
from lomix_search.cli.common import console
from lomix_search.errors import RunError
from lomix_search.utils.terminal import telling_digits

BOLD, CLOSING, RED, SMILE = "[bold]", "[/x]", "[red]x[/red]", ":smile:"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose classes, cases, name, note and folder all look like markup."""
    monkeypatch.setattr(console, "_width", 300)  # COLUMNS is read when the package is imported
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "[red]x[" / "[/x]"
    folder.mkdir(parents=True)
    named = PARTS.replace('"large", "small"', f'"{BOLD}", "{CLOSING}"').replace('f"case{i}"', 'f"[red]{i}[/red]"')
    named = named.replace("thirteen", CLOSING)
    (folder / "parts.py").write_text(named)
    (folder / "recipe.toml").write_text(f'name = "{RED}"\nabout = "{CLOSING}{SMILE}"\n{RECIPE}')
    return folder


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_run_runs_and_compare_show_names_as_they_are(recipe: Path) -> None:
    said = call("run", recipe, "--folder", "runs/[/x]", "space.name=mutation")
    wanted = ("[red]10[/red]", BOLD, CLOSING, CLOSING + SMILE, "all in runs/[/x]")
    assert [name for name in wanted if name not in said] == [], said
    other = Path(shutil.copytree("runs/[/x]", f"runs/{BOLD}"), "recipe.toml")
    other.write_text(other.read_text().replace("lr = 0.03", "lr = 0.01"))
    listed = call("runs")
    assert [name for name in (BOLD, CLOSING, RED) if name not in listed] == [], listed
    Path("runs/[i]").mkdir()
    Path("runs/[i]/status.json").write_text("{}")  # damaged: the reason is told below it
    assert "damaged" in call("runs") and "runs/[i]/status.json has" in call("runs")
    told = call("runs", "compare", "runs/[/x]", f"runs/{BOLD}")
    assert BOLD in told and CLOSING in told and f"test.dice.final, {CLOSING}" in told
    assert call("report", "runs/[/x]", "--out", "[b].html").strip() == "written: [b].html"
    assert "P1" in call("show", "runs/[/x]/mixture.json")


@pytest.mark.slow
def test_tune_shows_names_as_they_are(recipe: Path) -> None:
    pytest.importorskip("optuna")
    said = call("tune", recipe, "--trials", "1", "--folder", "[/x]", "--study", BOLD, "search.steps=2")
    assert f'study "{BOLD}": 1 complete' in said and "best: [/x]/best.toml" in said
    assert f'study "{BOLD}"' in call("tune", "best", "[/x]", "--write", "[i].toml")
    with pytest.raises(RunError, match=r"ZeroDivisionError: \[/x\]"):  # of the only trial
        call("tune", recipe, "--trials", "1", "--folder", "b", "network.args={width=13}")


def test_evaluations_and_findings_show_names_as_they_are() -> None:
    from lomix_search.evaluation.paired_evaluations import PairedDifference, PairedTest
    from lomix_search.evaluation.score_table import ClassScores, Evaluation
    from lomix_search.recipe.validate import ClassRow, RecipeFindings, SetRow

    found = RecipeFindings(
        RED, (SetRow("train", 1, 1, 1),), (ClassRow(BOLD, 0.5, 1, 1),), "", warnings=(SMILE, f"a{CLOSING}"), faults=()
    )
    scored = Evaluation(
        "strict", "mm", (ClassScores(f"{RED}/{SMILE}", "p", CLOSING, {"dice": 1.0}), ClassScores("b/c", "q", BOLD, {}))
    )
    told = PairedTest("dice", (RED, SMILE), (PairedDifference(CLOSING, 1, 1, 0, 0, 0, 1, 2),))
    for shown, names in ((found, (RED, BOLD, SMILE, f"a{CLOSING}")), (told, (RED, SMILE, CLOSING))):
        assert all(name in drawn(shown) for name in names)
    assert all(name in drawn(Evaluation("strict", "mm", scored.rows[:1])) for name in (CLOSING, "strict"))


def drawn(what: object) -> str:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_control_codes_and_names_that_are_no_text_are_spelled_out() -> None:
    from lomix_search.utils.terminal import Terminal, plain

    console = Terminal(file=io.StringIO(), width=200)
    console.print("a\x1b[2Jb\udcff", plain("c\x07"))
    assert console.file.getvalue() == "a\\x1b[2Jb\\udcff c\\x07\n"  # type: ignore[attr-defined]


def test_every_table_is_ours_and_no_line_of_the_library_is_markup() -> None:
    """Whoever adds a table or a line to the library meets this: rich's own reads names as markup."""
    home = ROOT / "lomix_search"
    for path in home.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "terminal.py":
            assert not re.search(r"from rich.table import|rich.table.Table|from rich import .*table", text), path
        assert not re.search(r"TextColumn\(\s*\"\{task\.description\}\"\s*\)", text), path
        if path.parent.name != "cli":  # its console reads no markup
            assert not re.search(r"(console|say|screen)\.(print|rule)\(\s*f?[\"']", text), path


def test_as_many_decimals_as_tell_values_apart() -> None:
    assert telling_digits([0.65, 0.66]) == 4 and telling_digits([0.1, 0.9]) == 3
    assert telling_digits([0.5, 0.5]) == 3 == telling_digits([]), "equal values need none"
    assert telling_digits([0.5, 0.50001]) == 5 == telling_digits([1.0, 1 + 1e-12]), "no more than five"
