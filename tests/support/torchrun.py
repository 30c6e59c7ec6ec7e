"""``torchrun(*arguments)``: two processes of ``lomix run`` under torchrun."""

import os
import subprocess
import sys

from support.places import ROOT, TESTS

ALONE = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)]),
}


def torchrun(*arguments: str) -> subprocess.Popen[str]:
    """Start ``lomix run`` with these arguments on two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "lomix_search", "run", *arguments]
    return subprocess.Popen(command, env=os.environ | ALONE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
