"""Kill a run at thirty random moments, going on each time; ``chaos.py FOLDER`` leaves ``whole`` and ``killed_0``.

A run that ends before thirty kills, on a machine whose load just fell, is followed by another, ``killed_1``.
Everything is imported once; each life of the run is a fork of this process, ended by SIGKILL.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch._dynamo  # noqa: F401 — every optimizer imports it: here once, not in each fork

from support.runs import run
from support.shapes import build

KILLS = 30
STEPS = 24
BUILT = build("lomix")  # every life starts from this one


def whole_or_not(folder: Path) -> None:
    run(folder, built=BUILT, steps=STEPS, checkpoint_every=1, validate_every=2, resume=True)


def fork(act: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            act()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return pid


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def dying_in_writing(folder: Path, call: int, where: str) -> None:
    """Run until the so-many-th file is written, and die in the midst of it."""
    left = [call]
    fsync, replace = os.fsync, Path.replace

    def counted(moment: str) -> None:
        left[0] -= moment == "half"
        if left[0] <= 0 and moment == where:
            die()

    def half(handle: int) -> None:
        counted("half")
        fsync(handle)
        counted("written")

    def moved(path: Path, target: str | Path) -> Path:
        counted("closed")
        there = replace(path, target)
        counted("moved")
        return there

    def truncated(handle: int) -> None:
        if where == "half" and left[0] <= 1:
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
        half(handle)

    os.fsync, Path.replace = truncated, moved  # type: ignore[assignment, method-assign]
    whole_or_not(folder)


def main(home: Path) -> None:
    draw = random.Random(11)
    began = time.monotonic()
    assert os.waitpid(fork(lambda: whole_or_not(home / "whole")), 0)[1] == 0
    life = (time.monotonic() - began) / 8
    kills = in_writing = passes = 0
    while kills < KILLS:
        killed = home / f"killed_{passes}"
        writing = kills % 2 == 1
        if writing:
            call, where = draw.randint(1, 5), draw.choice(["half", "written", "closed", "moved"])
            pid = fork(partial(dying_in_writing, killed, call, where))
        else:
            pid = fork(partial(whole_or_not, killed))
            time.sleep(draw.uniform(0, life))
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            kills += 1
            in_writing += writing
        else:
            assert status == 0, "a life ended with an error"
            passes += 1
    assert os.waitpid(fork(lambda: whole_or_not(home / f"killed_{passes}")), 0)[1] == 0
    print(json.dumps({"kills": kills, "in_writing": in_writing, "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
