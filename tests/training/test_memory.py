"""Memory that runs out: said in numbers, with what to type."""

import re
import resource
from pathlib import Path

import pytest
import torch
from support.forked import in_child
from support.shapes import Shapes, build
from torch import Tensor

import lomix_search as lomix


@pytest.mark.slow
def test_memory_that_runs_out_is_explained_in_numbers(tmp_path: Path) -> None:
    def starved() -> None:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        net, loss = build("lomix")
        resource.setrlimit(resource.RLIMIT_AS, (held + 160 * 2**20,) * 2)
        lomix.search(net, loss, Wide(), folder=tmp_path, steps=2, batch_size=64, progress=False)

    lines = in_child(starved).splitlines()
    assert lines[0] == "out of memory at step 1 on cpu: a batch of 64 items, 1 × 128 × 128 each, did not fit."
    assert "DefaultCPUAllocator: can't allocate memory" in lines[1]
    assert " MiB of it free; this process may take " in lines[2] and lines[2].endswith(" MiB (ulimit -v)")
    told = re.fullmatch(
        r" +a step of one item with (\d+) maps keeps (\d+) MiB for the backward pass, 64 items about ([\d,]+) MiB",
        lines[3],
    )
    assert told is not None, lines[3]
    maps, one, together = (int(number.replace(",", "")) for number in told.groups())
    assert maps == len(build("lomix")[1].maps) and 1 <= one <= 20 and abs(together - 64 * one) <= 32
    assert lines[4:] == [
        "  Try:  search.batch_size=32",
        "        search.precision=bf16",
        "        (other settings need another folder: --folder runs/another)",
    ]


class Wide(Shapes):
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(1, 128, 128), torch.zeros(128, 128, dtype=torch.int64)
