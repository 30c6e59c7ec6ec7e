"""What every layout promises: the check that a new one has to pass, on the small raw folder that twins.RAW writes."""

from pathlib import Path

import pytest
from support.twins import RAW

from lomix_search.data.benchmarks.table import LAYOUTS
from lomix_search.data.manifest import case_name
from lomix_search.errors import DataError


def test_every_layout_has_a_raw_folder_to_be_checked_on() -> None:
    assert set(RAW) == set(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_sources_are_named_cases_whose_files_are_there(name: str, tmp_path: Path) -> None:
    sources = LAYOUTS[name].find(RAW[name](tmp_path / "raw"))
    names = [case_name(source.name) for source in sources]
    assert names == sorted(set(names)) and all(source.patient for source in sources)
    for source in sources:
        assert source.files and all(path.is_file() and path.is_relative_to(tmp_path / "raw") for path in source.files)


@pytest.mark.parametrize("name", LAYOUTS)
def test_cases_are_read_in_the_canonical_form(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    for source in layout.find(RAW[name](tmp_path / "raw"))[:2]:
        case = source.read()
        slices, channels, rows, columns = case.image.shape
        assert case.name == source.name and case.label.shape == (slices, rows, columns) and channels in (1, 3)
        assert set(case.label.ravel().tolist()) <= {0, *layout.labels} and len(case.spacing) in (0, 3)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_of_something_else_is_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing of any data set")
    with pytest.raises(DataError, match=r"notes\.txt") as error:
        LAYOUTS[name].find(tmp_path)
    assert str(tmp_path) in str(error.value).splitlines()[0] and "Try:" in str(error.value)
