"""What the site says of keys, commands and messages is complete: it is made of the code, and nothing is left out."""

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lomix_search import errors
from lomix_search.cli import app
from lomix_search.data.kinds.table import DATA_KINDS
from lomix_search.mixture.weighting import WEIGHTINGS
from lomix_search.recipe.recipe import Recipe

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

from generate import commands, messages, recipe_keys, stored_runs, units  # noqa: E402


def _keys_of(schema: dict[str, Any], parts: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Walk through a JSON Schema, which pydantic makes by its own means."""
    for name, inner in schema.get("properties", {}).items():
        several = inner.get("additionalProperties")
        inside = several if isinstance(several, dict) and "$ref" in several else inner
        found = re.search(r"#/\$defs/(\w+)", str({k: v for k, v in inside.items() if k != "default"}))
        if found and "properties" in parts[found[1]]:
            yield from _keys_of(parts[found[1]], parts, f"{prefix}{name}.{'KEY.' if inside is several else ''}")
        else:
            yield f"{prefix}{name}"


def test_every_key_of_a_recipe_is_on_its_page() -> None:
    schema = Recipe.model_json_schema(by_alias=True)
    wanted = set(_keys_of(schema, schema["$defs"]))
    for kind, known in DATA_KINDS.items():
        wanted |= {f"data.{key} [{kind}]" for key in known.settings.model_json_schema()["properties"]}
    for name, factory in WEIGHTINGS.items():
        wanted |= {f"weighting.{key} [{name}]" for key in list(inspect.signature(factory).parameters)[1:]}
    shown = set(re.findall(r"^```\{recipe-key\} (.+)$", recipe_keys.page(), re.MULTILINE))
    assert {key for key in shown if "torchjd" not in key} == wanted
    assert len(wanted) > 100


def test_every_key_says_what_it_does_and_every_number_its_unit() -> None:
    keys = recipe_keys.all_keys()
    assert not [key.name for key in keys if not key.about]
    assert not [key.name for key in keys if re.search("number", key.kind) and not key.unit]
    named = {f"{key.group}.{key.name.rpartition('.')[2]}" if "(" in key.group else key.name for key in keys}
    assert not units.UNITS.keys() - named  # none of a key that is gone


def test_a_key_has_its_type_range_and_default() -> None:
    by_name = {key.name: key for key in recipe_keys.all_keys()}
    assert [by_name["search.steps"].range, by_name["search.steps"].default] == ["≥ 1", "`1000`"]
    assert by_name["loss.top_k"].range == "0 < x ≤ 1" and by_name["search.workers"].range == "0 ≤ x ≤ 1024"
    assert by_name["evaluate.window"].kind == "list of whole numbers"
    assert by_name["optimizer.name"].kind == "one of `AdamW`, `SGD`" and by_name["data.root"].default == "required"
    assert by_name["tune.ranges.KEY.int"].kind == "true or false"  # by the name that the file has


def _typed(application: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for command in application.registered_commands:
        yield (*before, command.name or command.callback.__name__)
    for group in application.registered_groups:
        yield from _typed(group.typer_instance, (*before, group.name or group.typer_instance.info.name))


def test_every_command_is_on_the_page() -> None:
    shown = re.findall(r"^## lomix (.+)$", commands.page(), re.MULTILINE)
    assert sorted(shown) == sorted(" ".join(words) for words in _typed(app)) and len(shown) > 20


@pytest.mark.slow
def test_every_option_is_on_the_page() -> None:
    sections = {part.split("\n", 1)[0]: part for part in re.split(r"^## ", commands.page(), flags=re.MULTILINE)}
    for words in _typed(app):
        help_text = CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"}).invoke(app, [*words, "--help"]).stdout
        options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", help_text)) - {"--help"}
        shown = sections[f"lomix {' '.join(words)}"]
        assert not [option for option in options if option not in shown], words


@pytest.mark.slow
def test_every_message_is_on_the_page_of_its_kind() -> None:
    pages = messages.pages()
    missing, seen = [], 0
    for path in messages.PACKAGE.rglob("*.py"):
        for kind, text in re.findall(r'raise (\w+)\(\s*f?"([^"{]{12,})', path.read_text()):
            if kind in pages:
                seen += 1
                missing += [] if text.rstrip()[:40] in pages[kind] else [f"{path}: {text}"]
    assert not missing and seen > 100
    assert "pip install" in pages["MissingExtraError"]  # the cure stands beside the message


def test_every_kind_of_error_has_a_page_that_is_named_whatever_was_imported() -> None:
    kinds = messages.kinds()
    overview = (ROOT / "docs/reference/errors.md").read_text()
    linked = re.findall(r"errors/(\w+)\.md", overview)
    assert sorted(linked) == sorted(kinds) and all(kinds.values())
    public = {
        name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.LomixError)
    }
    assert {*public, "TrainerNameError", "StorageLost", "OperatorFault"} <= {*kinds, "LomixError"}


def test_links_of_the_pages_in_the_root_lead_somewhere() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / name).read_text())
        assert not [link for link in links if not (ROOT / link).exists()], name


@pytest.mark.parametrize("script", sorted((ROOT / "docs/gallery").glob("*.py")), ids=lambda path: path.stem)
def test_scripts_of_the_gallery_are_short(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert len(lines) <= 60 and lines[0] == '"""'


@pytest.mark.parametrize("script", stored_runs.scripts(), ids=lambda path: path.stem)
def test_what_is_stored_of_a_script_was_made_by_it(script: Path) -> None:
    stored = json.loads((stored_runs.STORED / f"{script.stem}.json").read_text())
    anew = f"LOMIX_DATA=FOLDER python docs/generate/stored_runs.py {script.stem}"
    assert stored["code"] == stored_runs.fingerprint(script), f"the code has changed since: {anew}"
    assert (stored_runs.STORED / f"{script.stem}.png").stat().st_size < 100_000
    assert re.search(r"CC BY-SA 4\.0|CC0", script.read_text()), "whose the data are, and by which licence"


def test_the_page_of_a_script_without_its_data_says_so_and_shows_what_was_stored() -> None:
    name = stored_runs.scripts()[0].stem
    page = f"Title\n=====\n\n.. _sphx_glr_download_examples_{name}.py:\n\nthe end\n"
    shown = stored_runs.with_stored(name, page)
    printed = json.loads((stored_runs.STORED / f"{name}.json").read_text())["printed"]
    assert all(f"   {line}\n" in shown for line in printed.splitlines()) and "was not run" in shown
    assert shown.index(f"stored/{name}.png") < shown.index("the end")
    left_out = stored_runs.pattern(with_data=False)
    assert not re.search(left_out, f"/gallery/{name}.py") and re.search(left_out, "/gallery/3_train.py")
    assert re.search(stored_runs.pattern(with_data=True), f"/gallery/{name}.py")
