"""What became of a run: its status is true while it lives, and after it was killed."""

import os
import signal
import time
from pathlib import Path

import pytest
from support.tiny_recipe import write_tiny
from support.workers import Worker

from lomix_search.experiments.listing import last_step, summarize_run
from lomix_search.experiments.status import Status, read_status

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.mark.slow
def test_a_run_is_running_while_its_process_lives_and_stopped_when_it_was_killed(tmp_path: Path) -> None:
    write_tiny(tmp_path / "recipe")
    command = ["run", str(tmp_path / "recipe"), "--folder", str(tmp_path / "run")]
    process = Worker(*command, "search.steps=100000", "data.wait=0.01")
    deadline = time.monotonic() + 120
    while last_step(tmp_path / "run/metrics.jsonl") < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    assert summarize_run(tmp_path / "run").state == "running"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert summarize_run(tmp_path / "run").state == "stopped"
    status = read_status(tmp_path / "run")
    assert status is not None and status.state == "running", "it had no time to say so"
    reused = status.model_copy(update={"pid": os.getpid()})
    assert reused.now == "stopped", "another process of the same number"
    elsewhere = status.model_copy(update={"host": "another machine"})
    assert elsewhere.now == "running", "of another machine's processes nothing is known here"


def test_a_status_reads_back(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    status = Status(state="failed", pid=1, started="2026-01-01T00:00:00+00:00", reason="why")
    (tmp_path / "status.json").write_text(status.model_dump_json())
    assert read_status(tmp_path) == status and status.now == "failed"
