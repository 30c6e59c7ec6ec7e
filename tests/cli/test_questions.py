"""What ``lomix new`` prints and asks."""

import json
from pathlib import Path

import numpy as np
import pytest
from support import own_folders as own
from support.twins import save_nifti

from lomix_search.cli import questions
from lomix_search.cli.common import app, console
from lomix_search.errors import RecipeError

HALF = np.diag([-1.0, -1.0, 1.5, 1.0])


def unclear(root: Path) -> Path:
    """Volumes that reach a little below 0: neither surely CTs nor surely others."""
    for n, (image, label) in enumerate(own.volumes(3)):
        save_nifti(root / f"p{n}.nii.gz", (image - 250).astype(np.int16), HALF)
        save_nifti(root / f"p{n}_seg.nii.gz", label, HALF)
    return root


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        app(["new", *map(str, arguments)])
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_decisions_are_shown_with_their_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 200)  # COLUMNS is read when the package is imported
    text = said(
        capsys, tmp_path / "r", unclear(tmp_path / "d"), "--classes", "a,b", "--size", "16,32,32", "--dims", "3"
    )
    assert "Are these CTs in Hounsfield units" in text and "Taken: mr. Say it with --modality ct or mr." in text
    for words in ("folders", "1 a, 2 b", "16 × 32 × 32", "1.5 × 1 × 1 mm", "--spacing", "70 / 10 / 20 by patient"):
        assert words in text, words
    assert (tmp_path / "r" / "recipe.toml").exists()


def test_a_script_is_asked_nothing_and_told_what_was_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "_can_ask", lambda: True)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: pytest.fail("it was asked"))
    told = json.loads(said(capsys, tmp_path / "r", unclear(tmp_path / "d"), "--dims", "2", "--json"))
    assert (
        Path(told["recipe"]).is_file() and {"what": "2D or 3D", "value": "2D"}.items() <= told["decisions"][3].items()
    )
    (open_one,) = told["unanswered"]
    assert open_one["option"] == "modality" and open_one["default"] == "mr" in open_one["answers"]


def test_somebody_at_a_terminal_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["perhaps", "ct"])
    monkeypatch.setattr(questions, "_can_ask", lambda: True)
    monkeypatch.setattr("typer.prompt", lambda text, **options: next(answers))
    said(capsys, tmp_path / "r", unclear(tmp_path / "d"), "--dims", "2")
    assert "modality: ct   (--modality)" in (tmp_path / "r" / "recipe.toml").read_text()


def test_folders_that_are_not_given(tmp_path: Path) -> None:
    for given in ((None, None, None), (None, tmp_path, None), (tmp_path, tmp_path, None)):
        with pytest.raises(RecipeError, match="lomix new"):
            questions.data_folders(*given)
    assert questions.data_folders(tmp_path, None, None) == (tmp_path, None)
    assert questions.data_folders(None, tmp_path, tmp_path / "m") == (tmp_path, tmp_path / "m")
    with pytest.raises(RecipeError, match="no list of numbers"):
        questions.measures("--size", "big")
