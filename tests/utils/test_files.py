"""Files that cannot be read or written are named as the user named them, with what to type."""

import os
from pathlib import Path

import pytest

from lomix_search.errors import RunError
from lomix_search.utils.files import DEPTH, read_bytes, read_json, read_toml, write_text


def told(act: object, *given: object) -> str:
    with pytest.raises(RunError) as caught:
        act(*given)  # type: ignore[operator]
    return str(caught.value).partition("  Try:  ")[2]


def test_what_cannot_be_read_says_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a b").mkdir()
    os.mkfifo("pipe.toml")
    assert told(read_bytes, Path("a b"), RunError, 9) == "ls 'a b'   # name one of its files"
    assert told(read_bytes, Path("a b/c/d"), RunError, 9) == "ls 'a b'   # what there is"
    assert told(read_bytes, Path("x" * 5000), RunError, 9) == "ls .   # what there is"
    assert told(read_toml, Path("pipe.toml"), RunError) == "cat pipe.toml > copy.toml   # and name the copy"
    Path("long").write_text("1234")
    assert told(read_bytes, Path("long"), RunError, 3) == "ls -l long   # is it another file?"


def test_what_is_not_of_its_form_says_how_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.toml").write_text("name = lung")
    Path("a.json").write_text("{")
    Path("list.json").write_text("[]")
    Path("deep.json").write_text("[" * (DEPTH + 1) + "]" * (DEPTH + 1))
    assert told(read_toml, Path("a.toml"), RunError).startswith('name = "lung"   # one key a line, text in quotes')
    assert told(read_json, Path("a.json"), RunError) == "python -m json.tool a.json   # shows the line"
    assert told(read_toml, Path("a.json"), RunError).startswith("lomix show a.json   # if it is a mixture")
    assert told(read_json, Path("list.json"), RunError) == "ls ."
    assert told(read_json, Path("deep.json"), RunError) == "file deep.json   # what it is"


def test_what_cannot_be_written_has_the_name_that_was_given(tmp_path: Path) -> None:
    """Not that of the file beside it, which takes the name when it is whole."""
    path = tmp_path / ("x" * 250)
    with pytest.raises(OSError, match="File name too long") as caught:
        write_text(path, "")
    assert caught.value.filename == str(path) and list(tmp_path.iterdir()) == []
