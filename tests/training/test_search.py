"""The search loop: it learns, repeats, takes any thread and precision, and explains what goes wrong."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.runs import run, same
from support.shapes import CLASSES, Shapes, build
from support.zoo import SmallUNet
from torch import Tensor

import lomix_search as lomix
from lomix_search.errors import RunError
from lomix_search.mixture.mixture import Mixture
from lomix_search.recipe.sections import OptimizerSection, SearchSection
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.search import run_search
from lomix_search.training.state import TrainingPlan
from lomix_search.training.trackers import read_lines


def test_it_learns_and_leaves_a_run_folder(tmp_path: Path) -> None:
    result = run(tmp_path, built=build(), steps=60)
    assert result.final is not None and result.final.mean > 0.8
    assert result.best_dice >= result.final.mean - 1e-12 and result.best_step % 4 == 0
    assert Mixture.load(tmp_path / "mixture.json").weights == result.mixture.weights
    assert set(result.mixture.provenance.metrics) == {"val.dice.final", "val.dice.best", "val.dice.best_step"}
    assert all(0 < w < np.log(2) for w in result.mixture.weights.values())  # the paper's rule: weights only fall
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines if "train/loss" in line] == list(range(1, 61))
    assert len(lines[0]["mixture/weights"]) == len(result.mixture.maps)
    said = [line["mixture/warning"] for line in lines if "mixture/warning" in line]
    assert len(said) == 1 and result.mixture.provenance.warnings == tuple(said)
    assert '"effective_maps": ' in (tmp_path / "mixture.json").read_text()
    fresh = SmallUNet(width=8)
    fresh.load_state_dict(read_tensors(tmp_path / "final.pt"))


@pytest.mark.slow
def test_seeded_runs_are_identical(whole_with_operators: Path, tmp_path: Path) -> None:
    second = run(tmp_path, built=build())
    same(whole_with_operators, tmp_path)
    assert (tmp_path / "mixture.safetensors").exists()
    noted = Mixture.load(whole_with_operators / "mixture.json").provenance.metrics
    assert noted["val.dice.best"] == second.best_dice


class Open:
    """A tracker that counts what it gets."""

    def __init__(self) -> None:
        self.logged = self.handed = self.closed = 0

    def log(self, step: int, values: object) -> None:
        assert not self.closed
        self.logged += 1

    def files(self, paths: Sequence[Path]) -> None:
        self.handed += len(paths)

    def close(self) -> None:
        self.closed += 1


def test_search_closes_the_trackers_it_is_handed_and_run_search_leaves_an_open_log_open(tmp_path: Path) -> None:
    handed, log = Open(), Open()
    lomix.search(*build(), Shapes(), folder=tmp_path / "a", steps=2, trackers=[handed], progress=False)
    plan = TrainingPlan(SearchSection(steps=2), OptimizerSection())
    run_search(*build(), Shapes(), None, plan, folder=tmp_path / "b", log=log, progress=False)
    assert (handed.logged, handed.handed, handed.closed) == (2, 1, 1)
    assert (log.logged, log.handed, log.closed) == (2, 1, 0)
    assert len(read_lines(tmp_path / "b/metrics.jsonl")) == 2


class Enough(Exception):
    """What a caller of ``search`` may end it with."""


def test_on_validate_sees_every_validation_once_and_may_end_the_search(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []

    def look(step: int, dice: float) -> None:
        seen.append((step, dice))
        if step == 8:
            raise Enough

    net, loss = build()
    settings = {"steps": 12, "batch_size": 4, "validate_every": 4, "checkpoint_every": 4, "progress": False}
    with pytest.raises(Enough):
        lomix.search(net, loss, Shapes(), Shapes(4), folder=tmp_path, on_validate=look, **settings)
    logged = [(n["step"], n["val/dice"]) for n in read_lines(tmp_path / "metrics.jsonl") if "val/dice" in n]
    assert [step for step, _ in seen] == [4, 8] and seen == logged


def test_it_runs_outside_the_main_thread(tmp_path: Path) -> None:
    thread = threading.Thread(target=run, args=(tmp_path,), kwargs={"built": build(), "steps": 2})
    thread.start()
    thread.join()
    assert (tmp_path / "mixture.json").exists()


@pytest.mark.slow
def test_workers_do_not_change_the_result(tmp_path: Path) -> None:
    net, loss = build("deep_supervision")
    settings = {"steps": 3, "batch_size": 4, "progress": False, "classes": CLASSES}
    one = lomix.search(net, loss, Shapes(), folder=tmp_path / "0", **settings)
    net, loss = build("deep_supervision")
    two = lomix.search(net, loss, Shapes(), folder=tmp_path / "2", workers=2, **settings)
    assert one.mixture == two.mixture
    assert one.final is None and np.isnan(one.best_dice)


def test_bfloat16_trains(tmp_path: Path) -> None:
    net, loss = build()
    result = lomix.search(net, loss, Shapes(), folder=tmp_path, steps=2, batch_size=4, precision="bf16", progress=False)
    assert all(np.isfinite(w) for w in result.mixture.weights.values())


class Sick(Shapes):
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        image[0, 0, 0] = float("nan")
        return image, label


def test_a_loss_that_is_not_finite_names_maps_and_images(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        run(tmp_path, Sick(), built=build())
    lines = str(caught.value).splitlines()
    assert lines[0] == "the loss is not finite at step 4, after 3 such steps were skipped."
    assert lines[1].startswith("  Seen: maps: P1, P2, ")
    assert lines[2] == "        the images: 4 values are NaN or infinite"
    assert (tmp_path / "checkpoints/step_00000000.pt").exists()


def test_unknown_and_bad_settings_are_listed_together(tmp_path: Path) -> None:
    net, loss = build()
    with pytest.raises(RunError) as caught:
        lomix.search(net, loss, Shapes(), folder=tmp_path, stepz=3, lr=-1)
    assert str(caught.value).splitlines()[:2] == [
        "search(…) has 2 faults.",
        '  stepz: unknown. Nearest: "steps". Known: batch_size, checkpoint_every, clip_grad, label_fraction, lr, '
        "momentum, optimizer, other_data, patience, power, precision, schedule, seed, shrink, skip_not_finite, steps, "
        "validate_every, weight_decay, workers.",
    ]
    assert not list(tmp_path.iterdir())


class Noting(Shapes):
    def __init__(self) -> None:
        super().__init__()
        self.read, self.count = [], 0  # type: ignore[var-annotated]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.read.append(index)
        self.count += 1
        return super().__getitem__(index)


def test_looking_moves_nothing(tmp_path: Path) -> None:
    train, val = Noting(), Noting()
    net, loss = build("deep_supervision")
    lomix.search(net, loss, train, val, folder=tmp_path, steps=2, batch_size=4, validate_every=9, progress=False)
    assert train.count == len(train.read) == 8 and val.read == list(range(12))


def test_the_faults_of_both_sections_are_told(tmp_path: Path) -> None:
    net, loss = build("deep_supervision")
    with pytest.raises(RunError) as caught:
        lomix.search(net, loss, Shapes(), folder=tmp_path, lr=-1, steps=0, precision="8", unknown=1)
    lines = str(caught.value).splitlines()
    assert lines[0] == "search(…) has 4 faults."
    assert [line.split(":")[0].split(" =")[0].strip() for line in lines[1:]] == ["unknown", "steps", "precision", "lr"]


@pytest.mark.slow
def test_the_last_validation_is_made_once(tmp_path: Path) -> None:
    val = Noting()
    net, loss = build("deep_supervision")
    settings = {"steps": 4, "batch_size": 4, "validate_every": 2, "progress": False, "classes": CLASSES}
    result = lomix.search(net, loss, Shapes(), val, folder=tmp_path, **settings)
    assert val.count == 2 * 12
    assert result.final is not None and np.isfinite(result.final.mean)
    net, loss = build("deep_supervision")
    again = lomix.search(net, loss, Shapes(), val, folder=tmp_path, resume=True, **settings)
    assert again.final is not None and again.final.mean == result.final.mean and val.count == 3 * 12
