"""Work on one network in a process of its own, with its package first on the path: packages share names of modules."""

import os
import pickle
import signal
import sys
from pathlib import Path

PACKAGES = Path(__file__).parents[2] / ".venv-lists"
"""Where benchmarks/stage_lists.py --install puts each package, in a folder of its own; `shared` has what many need."""


def apart(work, entry, seconds=300):
    """Return ``work(entry)``, done in a fork; an error and a process that dies are returned as text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        signal.alarm(seconds)
        sys.dont_write_bytecode = False  # each process imports the packages anew
        sys.path[:0] = [
            str(PACKAGES / name)
            for name in (entry.get("pkg", ""), f"{entry['source']}-shared", "shared")
            if (PACKAGES / name).is_dir()
        ]
        try:
            made = work(entry)
        except BaseException as error:
            made = f"{type(error).__name__}: {error}"
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(made, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(data) if data else "the process died, or took too long"
