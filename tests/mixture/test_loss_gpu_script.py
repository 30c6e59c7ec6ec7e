"""The script that a GPU's minutes go to, on Triton's interpreter: it must not fail where it cannot be tried again."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.places import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
]


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "ignore", "benchmarks/gpu.py", "--out", str(folder / "gpu.json"), *options]
    return subprocess.run(
        command, cwd=ROOT, env=environment | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )


def rows(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "gpu.json").read_text(encoding="utf-8"))["rows"]
    return found


def test_rows_are_measured_once_and_say_what_failed(tmp_path: Path) -> None:
    chosen = ("right, L 4, strides 8", "loss, L 4, strides 32 to 4", "waits", "scaling, mutants")
    done = run(tmp_path, "--dry", "--rows", *chosen[:3])
    assert done.returncode == 0, done.stderr[-2000:]
    found = rows(tmp_path)
    assert found["right, L 4, strides 8 to 1"]["difference"] < 1e-5
    assert found["right, L 4, strides 8 to 1"]["same bits again"]
    assert found["waits"].startswith("failed: ")
    assert set(found) == {
        *("right, L 4, strides 8 to 1", "loss, L 4, strides 32 to 4", "waits"),
        "loss, L 4, strides 32 to 4, bfloat16, batch 24",
    }
    for name in set(found) - {"right, L 4, strides 8 to 1", "waits"}:
        assert {path for path, one in found[name].items() if one["ms"] > 0} == {
            *("triton", "last layer", "monai", "deep supervision", "vectorised", "straightforward")
        }
    done = run(tmp_path, "--dry", "--rows", *chosen)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split(" ")[0] for line in done.stdout.splitlines()] == ["waits", "scaling,"]
    assert rows(tmp_path) == found | {"scaling, mutants that count": rows(tmp_path)["scaling, mutants that count"]}
    shown = run(tmp_path, "--tables").stdout
    assert "| L 4, strides 32 to 4 | " in shown
    assert "| L 4 | not run | not run |" in shown


def test_without_a_gpu_it_says_so_and_another_machine_is_not_gone_on_with(tmp_path: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        assert run(tmp_path).stderr == "no CUDA device: not run\n"
    (tmp_path / "gpu.json").write_text('{"device": "another", "rows": {}}')
    refused = run(tmp_path, "--dry")
    assert refused.returncode == 1
    assert "give another --out" in refused.stderr
