"""Several processes, one run: the same search as one process, whatever becomes of them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.places import ROOT, TESTS
from support.runs import same
from support.together import KINDS, tensors

from lomix_search.training.trackers import read_lines

ALONE = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)]),
}
SCENARIOS = ("told", "same", "resumed", "stopped", "lost", "tuned")

Said = tuple[Path, dict[str, Any], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """Run all scenarios in forks of one process; return their folder, their answers, and the errors that were said."""
    home = tmp_path_factory.mktemp("together")
    command = [
        sys.executable,
        "-W",
        "error::UserWarning",
        str(TESTS / "support" / "together.py"),
        str(home),
        *SCENARIOS,
    ]
    done = subprocess.run(command, env=os.environ | ALONE, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    errors = [json.loads(line[6:]) for line in done.stderr.splitlines() if line.startswith("ERROR ")]
    return home, json.loads(done.stdout.splitlines()[-1]), errors


def numbers(value: Any) -> list[float]:
    return [-1.0 if part is None else part for part in (value if isinstance(value, list) else [value])]


def close(one: Path, other: Path, within: float) -> None:
    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=within, atol=within, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.slow  # pairs of processes, a dozen times
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_find_what_one_finds(kind: str, said: Said) -> None:
    """In float64, after 12 steps of AdamW on 5 items: network, learned operators, weights and moments."""
    home = said[0] / "same"
    close(home / f"{kind}1", home / f"{kind}2", 1e-8 if "lookahead" in str(KINDS[kind]) else 1e-12)
    one, two = (read_lines(home / f"{kind}{count}/metrics.jsonl") for count in (1, 2))
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys() and a["step"] == b["step"]
        for key in {"train/loss", "train/grad_norm", "val/dice", "mixture/weights", "mixture/per_map"} & a.keys():
            assert numbers(a[key]) == pytest.approx(numbers(b[key]), rel=1e-7, abs=1e-9), (key, a["step"])
    moved = tensors(home / f"{kind}1")
    learned = [key for key in moved if key.startswith("loss.operators")]
    assert learned, "an operator must learn for this to say anything"


@pytest.mark.slow
def test_three_processes_too(said: Said) -> None:
    home = said[0] / "same"
    close(home / "softplus1", home / "softplus3", 1e-12)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(said: Said) -> None:
    home = said[0] / "resumed"
    close(home / "whole", home / "parts", 1e-12)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_step(said: Said) -> None:
    assert said[1]["stopped"] == [[0, 0], [0, 0]]
    same(said[0] / "stopped/cut", said[0] / "stopped/whole")


@pytest.mark.slow
def test_a_lost_process_ends_the_run_with_whole_files(said: Said) -> None:
    home, answers, errors = said
    lost = answers["lost"]
    assert {name: one["codes"] for name, one in lost.items()} == {
        "killed": {"0": 2, "1": -9},
        "first": {"1": 2, "0": -9},
        "broken": {"0": 2, "1": 2},
        "hung": {"0": 2, "1": -9},
    }
    assert all(one["seconds"] < 30 for one in lost.values()), lost
    for name in lost:
        kept = {path for path in lost[name]["left"] if not path.endswith("/lock")}
        assert all(
            path.endswith(("best.pt", "best.heads.pt", "metrics.jsonl")) or "/checkpoints/step_" in path
            for path in kept
        ), kept
        same(home / "lost" / name, home / "lost/whole")  # on two processes as before: to the last bit
    texts = [error["text"] for error in errors if "lost another one" in error["text"]]
    assert len(texts) == 4 and all(re.fullmatch(LOST, text) for text in texts), texts
    assert "Timed out waiting 4000ms" in texts[-1]


LOST = (
    r"process \d of 2 lost another one, which was killed, failed, or did not answer in time\.\n"
    r"  Seen: \S+/lost/\w+, at step \d+\n"
    r"        \w+: .{10,160}\n"
    r"  Try:  the same command with --resume; on any number of processes"
)


@pytest.mark.slow
def test_what_one_process_decides_is_said_once(said: Said) -> None:
    assert said[1]["told"] == [[2, 2]] * 5
    by_text: dict[str, list[bool]] = {}
    for error in said[2]:
        by_text.setdefault(error["text"].splitlines()[0], []).append(error["told"])
    assert sorted(by_text["pruned at step 4."]) == [False, True]
    assert by_text["item 3 is broken."].count(True) == 1
    assert sorted(by_text[f"{said[0]}/told/once holds a run already, at step 1."]) == [False, True]
    (small,) = {error["text"] for error in said[2] if "batch_size" in error["text"]}
    assert small == (
        "batch_size = 1 on 2 processes: each needs one item at least.\n"
        "  Try:  search.batch_size=2\n"
        "        torchrun --nproc-per-node 1 …"
    )
    (limit,) = {error["text"] for error in said[2] if "LOMIX" in error["text"]}
    assert limit == 'LOMIX_TIMEOUT is "soon"; seconds > 0 are needed.\n  Try:  export LOMIX_TIMEOUT=300'


@pytest.mark.slow
def test_a_study_runs_its_trials_on_all_processes(said: Said) -> None:
    one, two = said[1]["tuned"]
    assert [trial[:2] for trial in one] == [trial[:2] for trial in two]
    assert {trial[0] for trial in two} == {"COMPLETE", "FAIL"}
    for a, b in zip(one, two, strict=True):
        assert a[3] == b[3] and (a[2] is None) == (b[2] is None)
        assert a[2] is None or a[2] == pytest.approx(b[2], abs=1e-3)
    assert all("thirteen" in trial[3] for trial in two if trial[0] == "FAIL")
