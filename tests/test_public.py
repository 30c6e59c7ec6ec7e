"""The public surface: few names, documented, and a light import."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import lomix_search as lomix


def test_eight_public_names_or_fewer_each_documented() -> None:
    assert len(lomix.__all__) <= 8
    assert all(inspect.getdoc(getattr(lomix, name)) for name in lomix.__all__)
    assert set(lomix.__all__) <= set(dir(lomix))


def test_what_type_checkers_see_is_what_is_imported() -> None:
    """The imports under ``TYPE_CHECKING`` and the table that imports on demand are the same."""
    tree = ast.parse(Path(lomix.__file__).read_text())
    seen = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"lomix_search.{where}" for name, where in lomix._WHERE.items()}
    assert sorted(seen) == sorted(lomix.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'lomix_search' has no attribute 'instrumnet'"):
        lomix.instrumnet  # noqa: B018


@pytest.mark.slow
def test_importing_imports_none_of_the_extras() -> None:
    """Nor does loading a recipe: one process tells both, since each takes seconds to import torch."""
    code = (
        "import random, sys, lomix_search\n"
        "drawn = random.getstate()\n"
        "[getattr(lomix_search, name) for name in lomix_search.__all__]\n"
        "assert random.getstate() == drawn, 'importing draws from the random state of who imports'\n"
        "extras = {'monai', 'nibabel', 'h5py', 'PIL', 'pydicom', 'scipy', 'slicerio', 'nrrd', 'optuna', 'wandb', "
        "'matplotlib', 'lightning_fabric', 'triton'}\n"
        "print(sorted(extras & set(sys.modules)))\n"
        "from lomix_search.recipe.recipe import load_recipe\n"
        "load_recipe('chest_ct')\n"
        "print(sorted(extras & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["[]", "[]"]
