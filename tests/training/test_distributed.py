"""Several processes, one run: the same search as one process, whatever becomes of them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.places import ROOT, TESTS
from support.runs import same
from support.tiny_recipe import write_tiny
from support.together import KINDS, tensors
from torch import nn

from lomix_search.errors import RunError
from lomix_search.experiments.run import run_recipe
from lomix_search.experiments.status import read_status
from lomix_search.mixture.mixture import Mixture
from lomix_search.recipe.recipe import load_recipe
from lomix_search.training.step import warn_of_batch_norms
from lomix_search.training.trackers import read_lines
from lomix_search.utils import distributed

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
    done = subprocess.run(command, env=os.environ | ALONE, capture_output=True, text=True, timeout=300)
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
        assert all(path.endswith(("best.pt", "metrics.jsonl")) or "/checkpoints/step_" in path for path in kept), kept
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


def test_outside_torchrun_everything_is_the_plain_thing() -> None:
    values = torch.ones(2, requires_grad=True)
    assert distributed.sum_over_processes(values) is values and distributed.mean_over_processes(values) is values
    assert distributed.largest_over_processes(values) is values
    assert distributed.gather(7) == [7] and list(distributed.share([1, 2])) == [1, 2]
    assert (distributed.rank(), distributed.size(), distributed.is_main()) == (0, 1, True)
    distributed.average_gradients([values])
    assert values.grad is None
    with pytest.raises(RuntimeError, match="^gloo"), distributed.lost_processes(lambda: ""):
        raise RuntimeError("gloo")


@pytest.mark.parametrize(
    "words",
    [
        "cannot restore the weights", "the socket wrench class is missing", "gloo", "timed out", "connection closed",
        "[loader.py:3] Connection closed by peer", "store",
        "[/x/gloo/transport/tcp/pair.cc:553] [enforce fail] 40 vs 4",
    ],
)  # fmt: skip
def test_errors_of_a_users_code_are_not_taken_for_a_lost_process(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "size", lambda: 2)  # the words decide, not the number
    with pytest.raises(RuntimeError) as caught, distributed.lost_processes(lambda: ""):
        raise RuntimeError(words)
    assert type(caught.value) is RuntimeError and str(caught.value) == words


@pytest.mark.slow
def test_what_gloo_says_of_a_killed_and_of_a_slow_process_is_known(tmp_path: Path) -> None:
    """Real processes: the first loses the second; what it then raises is what the library must know."""
    for fate in ("kill", "sleep"):
        meeting = tmp_path / fate
        pids = list[int]()
        for rank in (0, 1):
            if (pid := os.fork()) == 0:
                os._exit(meet(rank, fate, meeting))
            pids.append(pid)
        codes = [os.waitpid(pid, 0)[1] for pid in pids]
        assert os.waitstatus_to_exitcode(codes[0]) == 0, fate


def meet(rank: int, fate: str, meeting: Path) -> int:
    from datetime import timedelta

    from torch import distributed as dist

    limit = timedelta(seconds=2)
    try:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2, timeout=limit)
        dist.all_reduce(torch.ones(1))
    except RuntimeError:
        return 3
    if rank == 1:
        if fate == "sleep":
            time.sleep(6)
        os.kill(os.getpid(), signal.SIGKILL)
    for again in (lambda: dist.all_reduce(torch.ones(9)), lambda: dist.broadcast_object_list([1], src=1)):
        try:
            again()
        except RuntimeError as error:
            if not distributed.is_loss(error):
                return 1
        else:
            return 2
    return 0


def test_batch_norms_are_warned_of() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.InstanceNorm2d(2), nn.SyncBatchNorm(2))
    with pytest.warns(UserWarning, match=r"1 batch norms \(1, …\) see only the items of their own process"):
        warn_of_batch_norms(net)
    warn_of_batch_norms(net[2:])


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "LOCAL_RANK": "2", "RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RunError) as caught:
        distributed.join()
    assert str(caught.value) == (
        "process 2 of this machine has no GPU; there are 2, and each process needs its own.\n"
        "  Try:  torchrun --nproc-per-node 2 -m lomix_search run RECIPE\n"
        '        CUDA_VISIBLE_DEVICES="" torchrun …   # on CPUs'
    )


# -- torchrun itself ---------------------------------------------------------------------------------------------------

RECIPE = [
    "chest_ct", "network.args.features=[4, 4, 8, 8, 8, 4]", "data.augment=chest_ct", "search.batch_size=3",
    "search.validate_every=2", "search.checkpoint_every=2", "optimizer.name=SGD", "optimizer.lr=0.05",
    "search.steps=6",
]  # fmt: skip


def torchrun(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "lomix_search", "run", *arguments]
    return subprocess.Popen(command, env=os.environ | ALONE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def members(folder: Path) -> Iterator[tuple[int, str]]:
    """Find the processes that torchrun started for a run folder, with their RANK."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            ours = str(folder) in (path / "cmdline").read_text()
            variables = (path / "environ").read_text().split("\0") if ours else []
        except OSError:
            continue
        yield from ((int(path.name), name[5:]) for name in variables if name.startswith("RANK="))


@pytest.mark.slow  # starts torchrun
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_torchrun_ends_when_one_of_its_processes_is_killed(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path / "recipe")
    folder = tmp_path / "run"
    running = torchrun(str(recipe), "search.steps=100000", "search.checkpoint_every=2", "--folder", str(folder))
    deadline = time.monotonic() + 240
    while not any(line["step"] >= 3 for line in read_lines(folder / "metrics.jsonl")):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    (victim,) = [pid for pid, rank in members(folder) if rank == "1"]
    os.kill(victim, signal.SIGKILL)
    out, err = running.communicate(timeout=120)
    assert running.returncode != 0 and "process 0 of 2 lost another one" in err.replace("\n", " "), err
    assert not list(members(folder)), "processes were left behind"
    assert not [path for path in folder.rglob(".*")]
    assert out.count("maps supervised") == 1, "one process speaks"
    assert read_status(folder).state == "failed"  # type: ignore[union-attr]


@pytest.mark.slow  # starts torchrun
def test_torchrun_finds_what_one_process_finds_on_the_embedded_ct(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    running = torchrun(*RECIPE, "--folder", str(two))
    run_recipe(load_recipe(RECIPE[0], RECIPE[1:]), one)
    out, err = running.communicate(timeout=240)
    assert running.returncode == 0, err
    assert out.count("test Dice, final network") == 1
    mixtures = [Mixture.load(folder / "mixture.json") for folder in (one, two)]
    # float32 sums of parts of a batch: 4e-6 seen on one processor, less on others; sums left apart give 1e-3
    assert mixtures[0].weights == pytest.approx(mixtures[1].weights, abs=2e-5)
    for key, value in mixtures[0].operators.items():
        torch.testing.assert_close(value, mixtures[1].operators[key], rtol=1e-4, atol=1e-5)
    scores = [json.loads((folder / "results.json").read_text())["test_dice"]["final"]["mean"] for folder in (one, two)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
