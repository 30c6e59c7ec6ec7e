"""What every error of the library has: what was asked or found, what was seen, what to type."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.places import ROOT

from lomix_search.errors import list_faults

HOME = ROOT / "lomix_search"
PACKAGES = sorted(path.name for path in HOME.iterdir() if (path / "__init__.py").is_file())

WITHOUT = {
    "experiments/predict/predict_images.py": 1,  # an image larger than the memory: no command makes it smaller
    "recipe/objects.py": 1,  # every argument that a builder takes stands in Seen
    "recipe/validate.py": 1,  # its faults are told one by one, each with what it needs
    "training/trackers/check_tracker.py": 1,  # the tracker's own error, which is the cause of this one
    "utils/schema.py": 1,  # its faults are told one by one, each with what is needed
}
"""Modules with so many errors that end without ``Try``, each with its reason."""


@pytest.mark.parametrize("package", PACKAGES)
def test_errors_that_users_meet_say_what_to_type(package: str) -> None:
    """Known names with the nearest of them say it too."""
    for path in sorted((HOME / package).rglob("*.py")):
        bare = list(_without_hint(path))
        name = path.relative_to(HOME).as_posix()
        assert len(bare) == WITHOUT.get(name, 0), f"{name}, lines {bare}: an error without hint"


def test_each_kind_of_error_is_looked_for() -> None:
    assert len(PACKAGES) == 10
    assert {"LossError", "StageError", "MissingExtraError", "StorageLost", "WeightingFault"} <= _kinds()


def _without_hint(path: Path) -> Iterator[int]:
    """Find where an error is made with a text, raised at once or later, or of a class that is given as ``error``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {*_kinds(), "error"}:
            hints = [word.value for word in node.keywords if word.arg == "hint"]
            empty = any(isinstance(hint, ast.Constant) and not hint.value for hint in hints)
            if node.args and (not hints or empty) and "nearest(" not in ast.unparse(node):
                yield node.lineno


@functools.cache
def _kinds() -> frozenset[str]:
    """Return the classes of errors, wherever they are."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(HOME.rglob("*.py"))]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found, before = {"LomixError"}, 0
    while len(found) > before:
        before = len(found)
        found |= {one.name for one in classes if found & {ast.unparse(base) for base in one.bases}}
    return frozenset(found)


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
