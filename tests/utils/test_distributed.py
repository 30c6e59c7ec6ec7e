"""What processes say to one another, where there is one process, and where one is lost."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from lomix_search.errors import RunError
from lomix_search.utils import distributed


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
