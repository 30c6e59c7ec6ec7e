"""What users write on a command line, split where TOML splits it; values as they are or refused."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_recipe import RECIPE, tiny, write_tiny

from lomix_search.errors import RecipeError
from lomix_search.experiments.compare.strategies import read_strategies
from lomix_search.recipe.overrides import join_key, names_of, split_key, split_list, split_setting, toml_or_text
from lomix_search.recipe.recipe import load_recipe

HUGE = ("99999999999999999999", "1e400", "-1", "nan", "inf", "-inf", "9" * 5000, "0x" + "f" * 5000, "true")


def message(recipe: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides)
    return str(caught.value)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("settings"))


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a", "a.b", "a-b.c_1", '"a.b"', "a.'b.c'.d", 'a . "b c"', "'a=b'.c", '"\\"".x', "'#'"])
def test_a_key_is_split_where_toml_splits_it(key: str) -> None:
    found: Any = tomllib.loads(f"{key} = 1")
    for part in split_key(key):
        found = found[part]
    assert found == 1
    assert split_key(join_key(split_key(key))) == split_key(key)


# what str.isprintable() says of letters, as an alphabet: drawing from it is cheap, filtering was not
printable = st.characters(exclude_categories=("C", "Z"), include_characters=" ")


@given(st.lists(st.text(printable, min_size=1), min_size=1))
def test_any_key_is_joined_and_split_again(path: list[str]) -> None:
    assert list(split_key(join_key(path))) == path
    assert split_setting(f"{join_key(path)}= 1=2 ") == (join_key(path).strip(), "1=2")


@pytest.mark.parametrize("key", ["", ".", "a.", ".a", "a..b", "a b", "'a", "a.'b", "a'b'", "a[0]", "[a]", "a,b"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        split_key(key)


def test_keys_with_dots_quotes_and_equals_signs_reach_the_recipe(recipe: Path) -> None:
    changes = ["network.args.'a.b'=1", 'network.args."x=y".z=[1, 2]', "network.args.\u00e4=3"]
    assert load_recipe(recipe, changes).network.args == {"width": 8, "a.b": 1, "x=y": {"z": [1, 2]}, "\u00e4": 3}
    assert "width" not in load_recipe(recipe, ["network.args.'width'="]).network.args
    assert "override 'a..b=1': 'a..b' is no key;" in message(recipe, "a..b=1")
    ranged = "tune.ranges={\"network.args.'a.b'\" = {choices = [1, 2]}}"
    varied = load_recipe(recipe, [ranged, "network.args.'a.b'=1"])
    assert varied.override({"network.args.'a.b'": 2}).network.args["a.b"] == 2
    assert "is no key" in message(recipe, "tune.ranges={'optimizer..lr' = {low = 1, high = 2}}")


def test_an_override_below_a_value_is_a_fault_everywhere(recipe: Path) -> None:
    assert "override 'optimizer.lr.foo': lr is not a table." in message(recipe, "optimizer.lr.foo=1")
    loaded = load_recipe(recipe)
    for key in ("optimizer.lr.foo", "search.steps.x.y", "name.x", "optimizer.schedule.x"):
        with pytest.raises(RecipeError, match="is not a table"):
            loaded.override({key: 1})


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["1\nfoo = 2", "1 # rest", "1, 2", "1,", "1]", "[1]]", "= 1", "'a' 'b'", "9" * 5000, "\x00"]
)
def test_what_is_more_than_one_value_is_text(text: str) -> None:
    assert toml_or_text(text) == text


@pytest.mark.parametrize("text", ["1", "3e-4", "true", "[1, 2]", "'a, b'", "{a = 1}", "[1,\n2]", "[{a = ']'}]", "0x1f"])
def test_what_is_one_value_is_toml(text: str) -> None:
    assert toml_or_text(text) == tomllib.loads(f"value = {text}")["value"]


@pytest.mark.parametrize(
    "key",
    ["search.steps", "search.batch_size", "search.seed", "search.validate_every", "search.workers", "search.clip_grad",
     "search.patience", "search.label_fraction", "search.skip_not_finite", "optimizer.lr", "optimizer.power",
     "optimizer.weight_decay", "loss.ce", "evaluate.batch_size", "tune.trials", "tune.patience", "tune.target"],
)  # fmt: skip
@pytest.mark.parametrize("value", HUGE)
def test_numbers_that_no_setting_takes_are_refused_by_name(recipe: Path, key: str, value: str) -> None:
    if (key, value) in (("tune.target", "-1"), ("tune.target", HUGE[0])) or (
        value == HUGE[0]
        and key in ("search.clip_grad", "optimizer.lr", "optimizer.power", "optimizer.weight_decay", "loss.ce")
    ):
        load_recipe(recipe, [f"{key}={value}"])  # large, and a number
        return
    said = message(recipe, f"{key}={value}")
    assert said.splitlines()[1].startswith(f"  {key} = ") and len(said) < 400


@pytest.mark.slow
def test_the_largest_seed_trains_and_the_next_is_refused(tmp_path: Path) -> None:
    from lomix_search.experiments.run import run_recipe

    run_recipe(
        tiny(tmp_path / "recipe", ["search.steps=1", f"search.seed={2**63 - 1}"]), tmp_path / "run", score_test=False
    )
    assert "less than 9223372036854775808" in message(tmp_path / "recipe", f"search.seed={2**63}")


@pytest.mark.parametrize("depth", [60, 200, 333, 480, 5000])
def test_values_nested_deep_are_read_or_refused(recipe: Path, depth: int, tmp_path: Path) -> None:
    for text in ("[" * depth + "]" * depth, "{a=" * depth + "1" + "}" * depth):
        try:
            load_recipe(recipe, [f"network.args.a={text}"]).to_toml()
        except RecipeError as error:
            assert re.search("nested (more than|too deep)", str(error))
        path = tmp_path / "recipe.toml"
        path.write_text(f"[network]\nbuild = 'a:b'\nargs.a = {text}\n[data]\nkind = 'chest_ct'\n")
        try:
            load_recipe(path)
        except RecipeError as error:
            assert re.search("nested (more than|too deep)", str(error))


def test_files_that_are_no_recipe_are_refused_by_name(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    path = tmp_path / "recipe.toml"
    for content in (
        b"\xff\xfe[\x00",
        bytes(range(256)),
        b"\x80\x04\x95",
        b"a = 1\na = 2\n",
        b"[a]\n[a]\n",
        b"a.b = 1\n[a]\nb = 2",
    ):
        path.write_bytes(content)
        assert f"{path} is not a TOML file." in message(path)
    path.write_bytes(b"\xef\xbb\xbf" + RECIPE.encode())  # as an editor on Windows writes it
    assert load_recipe(path).search.steps == 4
    with path.open("wb") as file:
        file.truncate(1 << 33)
    assert "has more than 16 MiB; no such file is so large" in message(path)
    assert 'no recipe "/dev/zero"' in message(Path("/dev/zero"))


def test_dates_survive_the_resolved_recipe(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(recipe, ["network.args.day=2020-02-01", "network.args.at=2020-02-01T10:00:00Z"])
    (tmp_path / "again.toml").write_text(loaded.to_toml())
    assert load_recipe(tmp_path / "again.toml").network.args == loaded.network.args


# -- lists -------------------------------------------------------------------------------------------------------------


def test_lists_are_split_outside_quotes_and_brackets() -> None:
    assert split_list("a,b(c=[1,2],d='x,y'), e ") == ["a", "b(c=[1,2],d='x,y')", "e"]
    assert split_list('a(b=")",c={d=[1,"]"]})') == ['a(b=")",c={d=[1,"]"]})']
    assert names_of('liver,"lung, left",Crohn\'s, \'a "b"\',c (x,y)') == [
        "liver",
        "lung, left",
        "Crohn's",
        'a "b"',
        "c (x",
        "y)",
    ]
    assert split_list("") == names_of(" ") == []
    for text in ("a(b", "a)", "a(b]", "a,'b", "a,,b", "a,", ",a"):
        with pytest.raises(ValueError, match="closed|closes nothing|empty entry|missing"):
            split_list(text)


def test_settings_of_strategies_hold_lists_and_commas() -> None:
    from lomix_search.mixture import weighting

    def listed(maps: object, order: list = [], note: str = "") -> None:  # type: ignore[type-arg]  # noqa: B006
        """A weighting for this test alone."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(weighting.WEIGHTINGS, "listed", listed)
        one, two = read_strategies('listed(order=[1,2,[3,4]],note="a,b)=c"),uniform')
        assert one.settings == {"order": [1, 2, [3, 4]], "note": "a,b)=c"} and two.name == "uniform"
    for text, fault in (
        ("lookahead(rate)", "must read key=value"), ("lookahead(rate=1,rate=2)", "rate is given twice"),
        ("lookahead(rate=1", "not closed"), ("uniform,,anneal", "empty entry"),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=fault):
            read_strategies(text)
