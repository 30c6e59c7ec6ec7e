"""The published networks on a GPU, by hand: pytest tests/published/check_cuda.py, with their packages."""

import pytest
import torch

from published.check_published import installed
from published.judge import judge
from published.networks import ZOO

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("entry", [e for e in ZOO if installed(e)], ids=lambda e: e["id"])
def test_stages_on_a_gpu(entry):
    torch.backends.cudnn.deterministic = True  # or the bare network's output differs from run to run
    verdict = judge(entry, device="cuda")
    assert verdict.same
    if "nonU" not in entry["tags"]:
        assert verdict.right, (verdict.refused, verdict.found)
        assert verdict.trains in (True, None)
