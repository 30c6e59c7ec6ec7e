"""Several processes of the command line on one study; some of them are killed."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from support.postgres import restartable, server
from support.tiny_recipe import write_tiny
from support.workers import Worker

from lomix_search.errors import RunError
from lomix_search.experiments.tune.opening import open_study
from lomix_search.experiments.tune.retry import StorageLost, patient
from lomix_search.experiments.tune.storage import StudyStorage
from lomix_search.experiments.tune.trial_queue import survey

pytestmark = pytest.mark.slow
SLOWLY = ["data.wait=0.05", "search.steps=8", "search.checkpoint_every=1"]  # 200 ms a step: time to be killed in


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with server() as url:
        yield url


def worker(recipe: Path, home: Path, *more: str, threads: int = 1) -> Worker:
    return Worker("tune", str(recipe), *SLOWLY, "--folder", str(home), *more, threads=threads)


def wait_until(what: object, seconds: float = 90) -> object:
    """Poll a function until it returns something true."""
    until = time.monotonic() + seconds
    while not (found := what()):  # type: ignore[operator]
        assert time.monotonic() < until, "this never came true"
        time.sleep(0.1)
    return found


def in_mid_trial(where: str, name: str | None, pid: int) -> int | None:
    """Return the number of the trial that a process is in the middle of."""
    try:
        study, _ = open_study(where, name)
    except RunError:
        return None
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    mine = [t for t in running if f"-{pid}-" in str(t.user_attrs.get("worker"))]
    return next((t.number for t in mine if t.intermediate_values or "step" in t.user_attrs), None)


def check_exact(study: optuna.Study, wanted: int, killed: int) -> optuna.trial.FrozenTrial:
    """Every slot came to its end once; the killed trial was run again, from its checkpoint. Return the new one."""
    found = survey(study.get_trials(), wanted)
    assert not found.waiting and not found.running and not found.empty
    assert [t.state for t in found.finished] == [TrialState.COMPLETE] * wanted
    assert sorted(t.user_attrs["slot"] for t in found.finished) == list(range(wanted))
    completed = [t for t in study.trials if t.state == TrialState.COMPLETE]
    assert len(completed) == wanted  # none twice
    lost = study.trials[killed]
    assert lost.state == TrialState.FAIL and "reason" not in lost.user_attrs
    (again,) = [t for t in completed if t.user_attrs["slot"] == lost.user_attrs["slot"]]
    assert again.params == lost.params
    before = again
    while before.number != killed:  # whoever took it over may have been stopped too
        before = study.trials[before.user_attrs["retry_of"]]
    return again


def run_on(home: Path) -> list[int]:
    """Return the steps in a run's log; each once if it went on from its checkpoint."""
    lines = (json.loads(line) for line in (home / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if "train/loss" in line]


def finish(processes: list[Worker]) -> list[str]:
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
    return said


@pytest.mark.usefixtures("pictures")
def test_four_workers_on_postgresql_one_killed(database: str, tmp_path: Path) -> None:
    recipe, home, wanted = write_tiny(tmp_path / "recipe"), tmp_path / "study", 7
    more = ["--storage", database, "--trials", str(wanted), "--heartbeat", "1", "--study", "four"]
    workers = [worker(recipe, home, *more) for _ in range(4)]
    victim = workers.pop()
    killed = wait_until(lambda: in_mid_trial(database, "four", victim.pid))
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    finish(workers)
    study, _ = open_study(home)  # the folder notes where its study lives
    again = check_exact(study, wanted, int(str(killed)))
    assert run_on(home / again.user_attrs["folder"]) == list(range(1, 9))
    assert not (home / f"trial_{killed:04d}").exists()
    busy = {t.user_attrs["worker"] for t in study.trials if t.state == TrialState.COMPLETE}
    assert len({name for name in busy if f"-{victim.pid}-" not in name}) == 3, "each of the others did some"
    assert (home / "best.toml").exists() and (home / "history.png").exists()


def test_workers_outlive_a_restart_of_the_database_in_mid_trial(tmp_path: Path) -> None:
    recipe, home, wanted = write_tiny(tmp_path / "recipe"), tmp_path / "study", 3
    with restartable() as database:
        more = [
            "--storage",
            database.url,
            "--trials",
            str(wanted),
            "--heartbeat",
            "5",
            "--study",
            "outage",
            "data.wait=0.25",
        ]
        workers = [worker(recipe, home, *more) for _ in range(2)]
        for one in workers:
            wait_until(lambda one=one: in_mid_trial(database.url, "outage", one.pid) is not None, 200)
        database.stop()
        time.sleep(4)  # both are in the midst of a trial, and want to tell of a validation
        assert [one.poll() for one in workers] == [None, None]
        database.start()
        told = [" ".join(said.split()) for said in finish(workers)]  # lines are broken where the screen ends
        assert all("does not answer (" in said and "answers again after" in said for said in told), told
        study, _ = open_study(database.url, "outage")
        found = survey(study.get_trials(), wanted)
        assert [t.state for t in found.finished] == [TrialState.COMPLETE] * wanted
        assert len([t for t in study.trials if t.state == TrialState.COMPLETE]) == wanted
        assert not [t for t in study.trials if "reason" in t.user_attrs]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage", "ignore:.*experimental")
def test_a_database_that_stays_away_is_given_up_after_a_stated_time() -> None:
    said: list[str] = []
    with restartable() as database:
        storage = StudyStorage(None, database.url).open(said.append)
        study = optuna.create_study(study_name="s", storage=storage)
        database.stop()
        later = threading.Timer(2, database.start)
        later.start()
        trial = study.ask()  # several calls, none of which fails
        later.join()
        assert len(said) == 2 and said[0].endswith("trying again for up to 10 minutes") and "answers again" in said[1]
        study.tell(trial, 1.0)
        lasting = patient(StudyStorage(None, database.url)._database(), "the database", said.append, longest=2)
        database.stop()
        began = time.monotonic()
        with pytest.raises(StorageLost, match="the database did not answer for"):
            optuna.load_study(study_name="s", storage=lasting)
        assert time.monotonic() - began < 20
        database.start()
        with pytest.raises(KeyError):  # faults of what is asked are not tried again
            optuna.load_study(study_name="another", storage=lasting)
        assert [t.value for t in optuna.load_study(study_name="s", storage=lasting).trials] == [1.0]


def test_workers_on_a_journal_one_killed_and_one_stopped(tmp_path: Path) -> None:
    recipe, home, wanted = write_tiny(tmp_path / "recipe"), tmp_path / "study", 5
    more = ["--trials", str(wanted), "--resume"]
    killed, stopped, last = (worker(recipe, home, *more) for _ in range(3))
    number = wait_until(lambda: in_mid_trial(str(home), None, killed.pid))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    wait_until(lambda: in_mid_trial(str(home), None, stopped.pid) is not None)
    stopped.send_signal(signal.SIGTERM)  # what a scheduler sends: it gives its trial back and ends well
    (said,) = finish([stopped])
    halfway = said.count("Stopped at step")  # none if its trial had just ended
    assert halfway == ("stopped between two trials" not in said)
    finish([last])
    study, _ = open_study(home)
    again = check_exact(study, wanted, int(str(number)))
    assert run_on(home / again.user_attrs["folder"]) == list(range(1, 9))
    assert [t.user_attrs.get("stopped") for t in study.trials].count(True) == halfway


@pytest.mark.parametrize("each", ["all", "one"])
def test_workers_that_crowd_a_machine_are_told_what_to_set(each: str, tmp_path: Path) -> None:
    recipe, home, cores = write_tiny(tmp_path / "recipe"), tmp_path / "study", os.cpu_count() or 1
    threads = max(2, cores) if each == "all" else 1
    more = ["--trials", "4", "--resume", "data.wait=0.1"]
    said = finish([worker(recipe, home, *more, threads=threads) for _ in range(2)])
    both = " ".join(" ".join(said).split())
    assert "on other workers" in both, "one began a trial beside the other"
    hint = f"start each with OMP_NUM_THREADS={max(1, cores // 2)}"
    assert (hint in both) == (each == "all"), said


SIGNALLED = """
import os
from pathlib import Path


def send(number, flag):
    if not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), number)


"""


def test_sigterm_while_a_trial_is_set_up_ends_the_worker_after_one_step(tmp_path: Path) -> None:
    recipe, home = write_tiny(tmp_path / "recipe"), tmp_path / "study"
    parts, flag = recipe / "parts.py", str(tmp_path / "sent")
    sent = parts.read_text().replace("    return Tiny", f"    send({signal.SIGTERM:d}, {flag!r})\n    return Tiny")
    parts.write_text(SIGNALLED + sent)
    (said,) = finish([worker(recipe, home, "--trials", "2")])
    assert "Stopped at step 1;" in said
    study, _ = open_study(home)
    assert [t.state for t in study.trials if t.state != TrialState.WAITING] == [TrialState.FAIL]
    finish([worker(recipe, home, "--trials", "2", "--resume")])
    again = check_exact(open_study(home)[0], 2, 0)
    assert run_on(home / again.user_attrs["folder"]) == list(range(1, 9))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_in_a_trials_last_validation_ends_the_worker_after_it(number: int, code: int, tmp_path: Path) -> None:
    recipe, home = write_tiny(tmp_path / "recipe"), tmp_path / "study"
    parts, flag = recipe / "parts.py", str(tmp_path / "sent")
    log = f"Path({str(home)!r}).glob('trial_0000/metrics.jsonl')"
    last = f"any('step\": 8,' in file.read_text() for file in {log})"  # the last step is logged, then validated
    sent = f"        if not self.training and {last}:\n            send({number:d}, {flag!r})\n        return self.head"
    parts.write_text(SIGNALLED + parts.read_text().replace("        return self.head", sent))
    process = worker(recipe, home, "--trials", "2")
    said = process.communicate()
    assert process.returncode == code, said
    study, _ = open_study(home)
    assert [t.state for t in study.trials if t.state != TrialState.WAITING] == [TrialState.COMPLETE]
    assert (home / "best.toml").exists() == (number == signal.SIGTERM)
    finish([worker(recipe, home, "--trials", "2", "--resume")])
    assert [t.state for t in open_study(home)[0].trials] == [TrialState.COMPLETE] * 2


def test_a_trial_that_kills_its_process_each_time_is_given_up(tmp_path: Path) -> None:
    recipe, home = write_tiny(tmp_path / "recipe"), tmp_path / "study"
    parts = recipe / "parts.py"
    parts.write_text("import os, signal\n" + parts.read_text().replace("raise ZeroDivisionError", "die() #"))
    parts.write_text(parts.read_text() + "\n\ndef die():\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    poison = ["network.args.width=13", "tune.ranges={'network.args.width' = {choices = [13, 8]}}"]
    for _ in range(3):
        process = worker(recipe, home, *poison, "--trials", "1", "--resume")
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    process = worker(recipe, home, *poison, "--trials", "2", "--resume")
    process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGKILL)  # the second trial may draw the deadly width again
    study, _ = open_study(home)
    (given_up,) = [t for t in study.trials if t.user_attrs.get("slot") == 0 and "reason" in t.user_attrs]
    assert re.match(
        r"killed: its process died 3 times \(.+-\d+-\w+, .+\); out of memory", given_up.user_attrs["reason"]
    )


def test_the_dashboard_serves_a_study(tmp_path: Path) -> None:
    recipe, home = write_tiny(tmp_path / "recipe"), tmp_path / "study"
    finish([worker(recipe, home, "--trials", "1")])
    port = 20000 + os.getpid() % 10000
    program = str(Path(sys.executable).with_name("optuna-dashboard"))
    dashboard = subprocess.Popen(
        [program, str(home / "journal.log"), "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        studies = wait_until(lambda: fetch(f"http://127.0.0.1:{port}/api/studies"), 30)
        assert isinstance(studies, dict)
        (one,) = studies["study_summaries"]
        assert one["study_name"] == "recipe"
        trials = fetch(f"http://127.0.0.1:{port}/api/studies/{one['study_id']}?after=0")
        assert isinstance(trials, dict) and [trial["state"] for trial in trials["trials"]] == ["Complete"]
    finally:
        dashboard.terminate()
        dashboard.wait()


def fetch(address: str) -> dict[str, list[dict[str, object]]] | None:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            content: dict[str, list[dict[str, object]]] = json.load(answer)
            return content
    except OSError:
        return None
