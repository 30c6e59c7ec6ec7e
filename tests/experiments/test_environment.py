"""What a run depended on: it stands in environment.json of its folder, and follows the data."""

import os
import sys
from pathlib import Path

import pytest
import torch
from support.refusals import message
from support.tiny_recipe import tiny

from lomix_search.experiments.environment import environment_of, read_environments
from lomix_search.experiments.status import read_status

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.mark.slow
def test_a_run_folder_holds_what_the_run_depended_on(home: Path) -> None:
    (environment,) = read_environments(home / "one")
    assert environment.packages["torch"] == torch.__version__ and environment.threads == torch.get_num_threads()
    assert environment.python == sys.version.split()[0]
    assert environment.data is not None and environment.data.of == "all items and the split"
    status = read_status(home / "one")
    assert status is not None and status.state == "finished" and status.pid == os.getpid()
    assert set(status.weights) == {"final", "best"} and status.peak_memory_mib and status.ended


def test_the_data_hash_follows_the_data(home: Path) -> None:
    recipe = tiny(home / "recipe")
    before = environment_of(recipe, splits := recipe.build_data()).data
    splits.train.images[0][0, 0, 0] += 1  # type: ignore[index]
    assert environment_of(recipe, splits).data != before


def test_a_damaged_environment_is_named(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text('{"starts": [{"python": 3}]}')
    assert "environment.json has" in message(tmp_path, act=read_environments)
