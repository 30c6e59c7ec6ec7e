"""Benchmarks in their users' layout, and ``lomix prepare`` on them."""

from pathlib import Path
from typing import Any

import pytest

from lomix_search.data.kinds import prepared
from lomix_search.data.prepare import prepare
from lomix_search.errors import DataError
from lomix_search.utils.shipped import shipped_folder

SPLITS = shipped_folder("recipes")


ACDC = ("right ventricle", "myocardium", "left ventricle")


PATIENTS = ["patient001", "patient004", "patient005", "patient019", "patient002"]


def go(benchmark: str, raw: Path, out: Path, **options: Any) -> Any:
    return prepare(benchmark, raw, out, **({"size": 32, "workers": 2, "progress": False} | options))


def fails(*args: Any, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        go(*args, **options)
    return str(error.value)


def settings(root: Path, classes: tuple[str, ...], **keys: Any) -> prepared.PreparedSettings:
    return prepared.PreparedSettings(root=str(root), classes=classes, **keys)
