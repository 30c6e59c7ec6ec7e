"""What benchmarks/stage_readings.py keeps of a labelled network, on which the scores are fitted."""

import numpy as np
import pytest
from support.families import FAMILIES

from benchmarks.stage_readings import kept
from lomix_search.instrumentation.instrumented import instrument

ENTRY = next(e for e in FAMILIES if "nonU" not in e["tags"] and not e["alts"] and not e["ladders"])


def flat(known):
    """The same, with lists in place of arrays."""
    return {
        key: [np.asarray(one).tolist() for one in value] if isinstance(value, list) else value
        for key, value in known.items()
        if key != "paths"
    } | {"paths": [[marks.tolist() for marks in path] for path in known["paths"]]}


def test_a_reading_comes_back_from_its_file_as_it_was_made(tmp_path):
    net = instrument(ENTRY["build"]().eval(), ENTRY["inputs"]())
    then = [stage.name for stage in net.stages], True
    made = kept(tmp_path, ENTRY, then)
    (file,) = tmp_path.iterdir()
    written = file.read_bytes()
    again = kept(tmp_path, ENTRY, then)
    assert flat(made) == flat(again) and file.read_bytes() == written
    assert made["right"] and made["then_right"]
    assert all(np.array_equal(a, b) for a, b in zip(made["rules"], made["then"], strict=True))
    assert any(all((r <= p).all() for r, p in zip(made["rules"], path, strict=True)) for path in made["paths"])


@pytest.mark.parametrize("other", [{"stages": list(ENTRY["stages"][1:])}, {"source": "another"}], ids=str)
def test_other_labels_are_another_reading(tmp_path, other):
    kept(tmp_path, ENTRY, None)
    kept(tmp_path, ENTRY | other, None)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_read_is_told_and_not_kept(tmp_path):
    def broken():
        raise OSError("no such weights")

    assert kept(tmp_path, ENTRY | {"build": broken}, None) == "OSError: no such weights"
    assert not list(tmp_path.iterdir())
