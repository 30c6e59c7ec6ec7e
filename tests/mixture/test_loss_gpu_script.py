"""The script that a GPU's minutes go to, on Triton's interpreter: it must not fail where it cannot be tried again."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import ROOT

RUNS = """
import json, sys
sys.argv = ["gpu.py", "--dry"]  # so that the interpreter is chosen before Triton is imported
sys.path.insert(0, "benchmarks")
import gpu
for options in json.load(sys.stdin):
    sys.argv = ["gpu.py", *options]
    try:
        gpu.main()
    except SystemExit as end:
        print(end)
    print("--")
"""


def said(*runs: tuple[str, ...]) -> list[str]:
    """What the script prints when it is called so, one after the other, in one process: imports take seconds."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUNS],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        input=json.dumps(runs),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split("--\n")[:-1]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_rows_are_measured_once_say_what_failed_and_are_of_one_machine(tmp_path: Path) -> None:
    out, other = str(tmp_path / "gpu.json"), tmp_path / "other.json"
    other.write_text('{"device": "another", "rows": {}}')
    chosen = ("right, L 4, strides 8", "loss, L 4, strides 8", "waits")
    first, again, tables, refused = said(
        ("--dry", "--out", out, "--rows", *chosen),
        ("--dry", "--out", out, "--rows", *chosen, "scaling, mutants"),
        ("--out", out, "--tables"),
        ("--dry", "--out", str(other)),
    )
    rows = json.loads(Path(out).read_text(encoding="utf-8"))["rows"]
    assert [name for name, row in rows.items() if isinstance(row, str)] == ["waits"], rows
    assert rows["right, L 4, strides 8 to 1"]["difference"] < 1e-5
    assert rows["right, L 4, strides 8 to 1"]["same bits again"]
    measured = {path for path, one in rows["loss, L 4, strides 8 to 1"].items() if isinstance(one, dict)}
    assert measured == {"triton", "last layer", "monai", "deep supervision", "vectorised", "straightforward"}
    assert rows["waits"].startswith("failed: ")
    assert [number for number, _ in rows["scaling, mutants that count"]["triton"]] == [0, 4]
    told = [line.split(", ")[0] for line in first.splitlines()]
    assert told == [f'waits "{rows["waits"]}"', "right", "loss"]
    assert [line.split(", ")[0] for line in again.splitlines()] == [told[0], "scaling"]
    assert "| L 4 | not run | not run |" in tables
    assert "give another --out" in refused
