"""Code in a recipe: what is called with which arguments, and what is said where that cannot be."""

import sys
from pathlib import Path

import pytest
from support.recipe_files import MINIMAL, write

from lomix_search import errors
from lomix_search.errors import MissingExtraError, RecipeError
from lomix_search.recipe.objects import load_object
from lomix_search.recipe.recipe import load_recipe


def test_own_data_function(tmp_path: Path) -> None:
    code = (
        "from lomix_search.data.kinds import chest_ct\n\n\n"
        "def load(size):\n    return chest_ct.load_chest_ct(chest_ct.ChestCTSettings()) if size == 128 else None\n"
    )
    write(tmp_path, code, "data.py")
    text = '[data]\nkind = "data.py:load"\nsize = 128\n[network]\nbuild = "torch.nn:Identity"\n'
    path = write(tmp_path, text)
    assert len(load_recipe(path).build_data().test) == 6
    with pytest.raises(RecipeError, match=r"data.kind = '.*data.py:load' returned NoneType; it must return Splits."):
        load_recipe(path, ["data.size=1"]).build_data()
    with pytest.raises(RecipeError, match=r'data\.sise: unknown. Nearest: "size". Known: size.'):
        load_recipe(path, ["data.sise=1"]).build_data()


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            "torch.nn:Conv2",
            "network.build = 'torch.nn:Conv2': torch.nn has no Conv2. Nearest: \"Conv2d\".\n  Try:  torch.nn:Conv2d",
        ),
        (
            "nowhere.at_all:x",
            "network.build: no module 'nowhere.at_all'.\n  Seen: No module named 'nowhere'\n"
            "  Try:  pip install nowhere",
        ),
        ("torch:zeros_like", None),
        (
            "builtins:dict",
            "network.build = 'builtins:dict' returned dict; it must return an nn.Module.\n"
            "  Try:  name a class of networks, or a function that returns one",
        ),
    ],
)
def test_message_network(tmp_path: Path, build: str, text: str | None) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL.replace("torch.nn:Identity", build)))
    with pytest.raises((RecipeError, TypeError)) as error:
        recipe.build_network()
    assert text is None or str(error.value) == text


def test_message_network_arguments(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL.replace("Identity", "Conv2d") + "[network.args]\nin_chanels = 1\n"))
    with pytest.raises(RecipeError) as error:
        recipe.build_network()
    lines = str(error.value).splitlines()
    assert lines[0] == "Conv2d cannot be called."
    assert lines[1].startswith('  network.args.in_chanels: unknown. Nearest: "in_channels". Known: ')
    assert lines[2:5] == [f"  network.args.{name}: missing." for name in ("in_channels", "out_channels", "kernel_size")]
    assert lines[5].startswith("  Seen: Conv2d(in_channels, out_channels, kernel_size, stride=1, ") and len(lines) == 6


def test_arguments_that_a_builder_refuses(tmp_path: Path) -> None:
    code = "def build(features=(8, 16)):\n    return [None] * features[0]\n"
    write(tmp_path, code, "net.py")
    text = MINIMAL.replace("torch.nn:Identity", "net.py:build") + "[network.args]\nfeatures = 16\n"
    with pytest.raises(RecipeError) as error:
        load_recipe(write(tmp_path, text)).build_network()
    assert str(error.value) == (
        "network.args: build cannot be built of these arguments: TypeError: 'int' object is not subscriptable\n"
        "  Seen: build(features=16)\n"
        "  Try:  build(features=(8, 16))   # its own defaults"
    )


def test_message_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError("No module named 'monai'", name="monai")

    monkeypatch.setattr(errors.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError) as error:
        load_recipe("chest_ct").build_network()
    assert str(error.value) == (
        "monai is needed here and is not installed.\n"
        "  Seen: import monai.networks.nets: No module named 'monai'\n"
        '  Try:  pip install "lomix-search[data]"'
    )


def test_message_network_that_needs_more(tmp_path: Path) -> None:
    """MONAI raises its own error class when a network needs a package that is only sometimes needed."""
    code = "def build():\n    raise ImportError(\"from einops import x (No module named 'einops').\\n\\nLong story\")\n"
    write(tmp_path, code, "model.py")
    recipe = load_recipe(write(tmp_path, MINIMAL.replace("torch.nn:Identity", "model.py:build")))
    with pytest.raises(MissingExtraError) as error:
        recipe.build_network()
    assert str(error.value) == (
        f"network.build = '{tmp_path}/model.py:build' needs a package that is not installed.\n"
        "  Seen: from einops import x (No module named 'einops').\n"
        "  Try:  pip install einops"
    )


def test_a_file_that_does_not_end_in_py_is_nothing_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in ("", str(tmp_path))])
    Path("nets_of_mine.py").touch()
    Path("nets_of_mine.toml").touch()
    for named, seen in (
        ("nets_of_mine", "there is no file nets_of_mine"),
        ("./nets_of_mine", "there is no file ./nets_of_mine"),
        ("nets_of_mine.toml", "it is a file with another ending"),
    ):
        with pytest.raises(RecipeError) as caught:
            load_object(f"{named}:Net", "MODEL")
        assert str(caught.value) == (
            f"MODEL: {named!r} is no module; files of code end in .py.\n  Seen: {seen}\n"
            f"  Try:  {named.removesuffix('.toml') if '.toml' in named else named}.py:NAME"
        )


@pytest.mark.parametrize(("code", "told"), [
    ("x = 1\ndef f(:", "line 2: the file cannot be imported.\n  Seen: SyntaxError: invalid syntax"),
    ("x = 1\n\nraise ValueError('mine')", "line 3: the file cannot be imported.\n  Seen: ValueError: mine"),
    ("import no_such", "line 1: the file cannot be imported.\n  Seen: ModuleNotFoundError: No module named 'no_such'"),
])  # fmt: skip
def test_a_file_that_fails_is_told_by_its_line(code: str, told: str, tmp_path: Path) -> None:
    path = write(tmp_path, code, "my net.py")
    with pytest.raises(RecipeError) as caught:
        load_object(f"{path}:Net", "MODEL")
    assert str(caught.value) == f"{path}, {told}\n  Try:  python '{path}'   # shows where"
    assert caught.value.__cause__ is not None  # for a traceback
