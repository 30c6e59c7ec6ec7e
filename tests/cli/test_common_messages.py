"""What every error of the commands has: what was asked or found, what was seen, what to type."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.places import ROOT

from lomix_search.errors import list_faults

WITHOUT = {
    "recipe/objects.py": 2,  # the nearest name, or every argument, is told already
    "recipe/validate.py": 1,  # its faults are told one by one, each with what it needs
}
"""Modules with so many errors that end without ``Try``, each with its reason."""


@pytest.mark.parametrize("package", ["cli", "data", "recipe", "experiments"])
def test_errors_that_users_meet_say_what_to_type(package: str) -> None:
    """Known names with the nearest of them say it too."""
    home = ROOT / "lomix_search"
    for path in sorted((home / package).rglob("*.py")):
        bare = list(_without_hint(path))
        name = path.relative_to(home).as_posix()
        assert len(bare) <= WITHOUT.get(name, 0), f"{name}, lines {bare}: an error without hint"


def _without_hint(path: Path) -> Iterator[int]:
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = node.exc.func.id if isinstance(node.exc.func, ast.Name) else ""
            told = any(word.arg == "hint" for word in node.exc.keywords) or "nearest(" in ast.unparse(node.exc)
            if name in _OURS and not told:
                yield node.lineno


_OURS = ("DataError", "MissingExtraError", "MixtureError", "RecipeError", "RunError")


def test_many_faults_are_told_with_each_way_out_once() -> None:
    one = "a.nii: NaN or infinite intensities.\n  Seen: first in slice 3\n  Try:  put numbers there\n        or leave"
    alone = "c.nii has no mask\n  Try:  draw it"
    seen, hints = list_faults([one, one.replace("a.nii", "b.nii"), alone, "d.nii has no mask"], 3)
    assert seen == [
        "a.nii: NaN or infinite intensities.\n  Seen: first in slice 3",
        "b.nii: NaN or infinite intensities.\n  Seen: first in slice 3",
        alone,
        "and 1 more",
    ]
    assert hints == ["put numbers there", "or leave"]
