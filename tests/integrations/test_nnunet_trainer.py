"""nnU-Net itself, on real images: its commands find the trainer, train, go on, predict without us, evaluate."""

import functools
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support.shims.sitecustomize  # noqa: F401 — for the searches of this process
import torch
from support.nnunet_dataset import TRAINERS, brain_dataset, chest_ct_dataset, command, environment, forked, plan

from lomix_search.integrations.nnunet.found import trainer_class, trainers_folder
from lomix_search.mixture.mixture import Mixture

pytestmark = pytest.mark.nnunet

NAME = "nnUNetTrainerShortLoMix_normalized"
FEATURES = (8, 16, 32, 32, 32)
Run = Callable[..., str]
"""``command``, a process of its own, or ``forked``, which costs less."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planned and preprocessed data set, and a folder of trainers."""
    folder = tmp_path_factory.mktemp("nnunet")
    chest_ct_dataset(folder)
    (folder / "own").mkdir()
    (folder / "own" / "short.py").write_text(TRAINERS)
    plan(folder, 901, "2d", FEATURES)
    return folder


def trainers(root: Path, **more: str) -> dict[str, str]:
    return environment(root, root / "own", trainers_folder(), **more)


def train(
    root: Path, *options: str, epochs: int, number: int = 901, configuration: str = "2d", run: Run = forked
) -> str:
    env = trainers(root, SHORT_EPOCHS=str(epochs))
    return run("nnUNetv2_train", str(number), configuration, "0", "-tr", NAME, "-device", "cpu", *options, env=env)


def fold(root: Path) -> Path:
    (found,) = (root / "results").glob(f"*/{NAME}__nnUNetPlans__*/fold_0")
    return found


@pytest.fixture(scope="module")
def said(root: Path) -> list[str]:
    """What a training of one epoch says, and the one that goes on to two."""
    first = train(root, epochs=1, run=command)
    shutil.copy(fold(root) / "checkpoint_final.lomix.pt", root / "first.lomix.pt")
    return [first, train(root, "--c", epochs=2)]


def epochs_of(path: Path) -> dict[int, Any]:
    states: dict[int, Any] = torch.load(path, weights_only=True)["epochs"]
    return states


def predict_and_compare(root: Path, number: int, configuration: str) -> None:
    """Predict a validation case without this library, and compare with the validation at the end of training."""
    (raw,) = (root / "raw").glob(f"Dataset{number:03d}_*")
    given, out = root / "given", root / "out"
    given.mkdir()
    names = [path.name.removesuffix(".nii.gz") for path in (fold(root) / "validation").glob("*.nii.gz")]
    for name in names[:1]:
        shutil.copy(raw / "imagesTr" / f"{name}_0000.nii.gz", given)
    stock = environment(root, LOMIX_ABSENT="1")
    which = ["-d", str(number), "-c", configuration, "-tr", NAME, "-f", "0", "-npp", "1", "-nps", "1", "-device", "cpu"]
    command("nnUNetv2_predict", "-i", str(given), "-o", str(out), *which, env=stock)
    files = [folder / f"{names[0]}.nii.gz" for folder in (out, fold(root) / "validation")]
    ours, theirs = (gzip.decompress(path.read_bytes()) for path in files)
    assert len(ours) > 1000 and ours == theirs
    (out / "labels").mkdir()
    shutil.copy(raw / "labelsTr" / f"{names[0]}.nii.gz", out / "labels")
    beside = ["-djfile", str(raw / "dataset.json"), "-pfile", str(fold(root).parent / "plans.json"), "-np", "1"]
    forked("nnUNetv2_evaluate_folder", str(out / "labels"), str(out), *beside, env=stock)
    assert 0 <= json.loads((out / "summary.json").read_text())["foreground_mean"]["Dice"] <= 1


def test_commands_train_and_log(root: Path, said: list[str]) -> None:
    log = "".join(path.read_text() for path in fold(root).glob("training_log*.txt"))
    assert 'LoMix: 48 maps of the finest 4 of 4 outputs, space "lomix", weights "normalized"' in log
    assert log.count("LoMix: shares of the loss") == 2 and "equal maps" in log
    assert "WARNING" not in log
    found = Mixture.load(fold(root) / "mixture.json")
    assert [stage.stride for stage in found.stages] == [(8.0, 8.0), (4.0, 4.0), (2.0, 2.0), (1.0, 1.0)]
    assert (found.num_classes, len(found.maps), found.provenance.steps) == (6, 48, 6)
    assert found.provenance.versions.keys() == {"lomix_search", "torch", "python", "nnunetv2"}
    assert found.provenance.network == "PlainConvUNet" and len(set(found.weights.values())) > 40


def test_a_finished_checkpoint_is_nnunets_own(root: Path, said: list[str]) -> None:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    checkpoint = torch.load(fold(root) / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["trainer_name"] == "nnUNetTrainer" and checkpoint["current_epoch"] == 2
    assert set(checkpoint) == {
        "network_weights", "optimizer_state", "grad_scaler_state", "logging", "_best_ema", "current_epoch", "init_args",
        "trainer_name", "inference_allowed_mirroring_axes",
    }  # fmt: skip
    plans = json.loads((fold(root).parent / "plans.json").read_text())
    made = plans["configurations"]["2d"]["architecture"]
    described = made["network_class_name"], made["arch_kwargs"], made["_kw_requires_import"]
    network = get_network_from_plans(*described, 1, 6, deep_supervision=True)
    network.load_state_dict(checkpoint["network_weights"], strict=True)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99, nesterov=True)
    optimizer.load_state_dict(checkpoint["optimizer_state"])  # so that nnU-Net's own trainer can go on too


def test_continuing_goes_on_with_weights_and_their_optimizer(root: Path, said: list[str]) -> None:
    assert "LoMix: goes on with the weights of epoch 1." in said[1] and "Epoch 0" not in said[1]
    first, both = epochs_of(root / "first.lomix.pt"), epochs_of(fold(root) / "checkpoint_final.lomix.pt")
    assert sorted(first) == [1] and sorted(both) == [1, 2]
    for epoch, steps in ((1, 3), (2, 6)):
        assert {int(state["step"]) for state in both[epoch]["optimizer"]["state"].values()} == {steps}
    theta = [both[epoch]["mixture"]["weighting.theta"] for epoch in (1, 2)]
    assert torch.equal(first[1]["mixture"]["weighting.theta"], theta[0]) and not torch.equal(*theta)
    assert not (fold(root) / "checkpoint_latest.lomix.pt").exists()


def test_predicting_without_this_library_gives_the_same_bits(root: Path, said: list[str]) -> None:
    predict_and_compare(root, 901, "2d")


@pytest.mark.realdata
@pytest.mark.slow
def test_hippocampus(tmp_path: Path) -> None:
    brain_dataset(tmp_path, Path(os.environ["LOMIX_DATA"]) / "hippocampus", cases=6)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "short.py").write_text(TRAINERS)
    plan(tmp_path, 4, "3d_fullres", (4, 8, 16, 16))
    train(tmp_path, epochs=1, number=4, configuration="3d_fullres")
    assert "goes on with the weights of epoch 1" in train(
        tmp_path, "--c", epochs=2, number=4, configuration="3d_fullres"
    )
    predict_and_compare(tmp_path, 4, "3d_fullres")
    assert Mixture.load(fold(tmp_path) / "mixture.json").num_maps == 3


# -- inside this process -----------------------------------------------------------------------------------------------


@pytest.fixture
def build(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Build a trainer by name, with what the test changes in dataset.json."""
    for name, value in trainers(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.syspath_prepend(str(root.parent))
    (prepared,) = (root / "preprocessed").glob("Dataset901_*")

    def built(name: str, **described: Any) -> Any:
        plans = json.loads((prepared / "nnUNetPlans.json").read_text()) | {"continue_training": False}
        dataset = json.loads((prepared / "dataset.json").read_text()) | described
        return trainer_class(name)(plans, "2d", 0, dataset, torch.device("cpu"))

    yield built
    trainer_class.cache_clear()


def batch(trainer: Any, seed: int = 0) -> dict[str, Any]:
    """Images and targets as nnU-Net's loader gives them."""
    drawn = torch.Generator().manual_seed(seed)
    labels = trainer.label_manager
    ignore = int(labels.ignore_label is not None)
    if labels.has_regions:
        finest = torch.rand(2, labels.num_segmentation_heads + ignore, 64, 64, generator=drawn) > 0.7
    else:
        finest = torch.randint(0, labels.num_segmentation_heads + ignore, (2, 1, 64, 64), generator=drawn)
    scales = [finest[..., :: 2**i, :: 2**i] for i in range(4)]
    target = scales if trainer.enable_deep_supervision else finest
    return {"data": torch.randn(2, 1, 64, 64, generator=drawn), "target": target}


def log_of(trainer: Any) -> str:
    return Path(trainer.log_file).read_text()


def step(trainer: Any, seed: int = 0) -> float:
    trainer.network.train()
    return float(trainer.train_step(batch(trainer, seed))["loss"])


def test_what_is_learned_goes_on_exactly(build: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    first = build("nnUNetTrainerLoMix_uncertainty")
    first.initialize()
    first.on_train_epoch_start()
    step(first)
    file = f"{first.output_folder}/checkpoint_latest.pth"
    first.inference_allowed_mirroring_axes = (0, 1)
    first.save_checkpoint(file)
    assert type(first).__name__ == "nnUNetTrainerLoMix_uncertainty"
    second = build("nnUNetTrainerLoMix_uncertainty")
    second.load_checkpoint(file)
    for trainer in (first, second):
        step(trainer, seed=1)
    one, other = (t.network.state_dict() | t.mixing.mixture.state_dict() for t in (first, second))
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []
    Path(file).with_suffix(".lomix.pt").unlink()
    third = build("nnUNetTrainerLoMix_uncertainty")
    third.load_checkpoint(file)
    assert "WARNING: checkpoint_latest.lomix.pt with this epoch's weights is not there" in log_of(third)


def test_a_compiled_network_trains_alike_and_is_saved_as_it_was_built(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA nnU-Net compiles by default, on a CPU never; the backend that generates no code is enough here."""
    losses = []
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    for compiles in (False, True):
        trainer = build("nnUNetTrainerLoMix_normalized")
        trainer._do_i_compile = lambda compiles=compiles: compiles
        torch.manual_seed(0)
        trainer.initialize()
        assert (type(trainer.network).__name__ == "OptimizedModule") == compiles
        trainer.on_train_epoch_start()
        torch.manual_seed(0)
        losses.append([step(trainer, seed) for seed in (0, 1)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    trainer.inference_allowed_mirroring_axes = (0, 1)
    trainer.save_checkpoint(file := f"{trainer.output_folder}/checkpoint_best.pth")
    saved = torch.load(file, weights_only=False)
    assert (
        saved["trainer_name"] == "nnUNetTrainer"
        and "encoder.stages.0.0.convs.0.conv.weight" in saved["network_weights"]
    )
    found = Mixture.load(f"{trainer.output_folder}/mixture.json")
    assert found.provenance.network == "PlainConvUNet" and found.stages[-1].name == "decoder.seg_layers.3"


def test_the_schedule_of_nnunet_leaves_the_weights_optimizer_alone(build: Callable[..., Any]) -> None:
    trainer = build("nnUNetTrainerLoMix_normalized_10epochs")
    trainer.initialize()
    assert trainer.num_epochs == 10 and len(trainer.optimizer.param_groups) == 1
    trainer.current_epoch = 9
    trainer.on_train_epoch_start()
    assert trainer.optimizer.param_groups[0]["lr"] < 0.002
    before = trainer.mixing.mixture.weighting.theta.detach().clone()
    step(trainer)
    moved = (trainer.mixing.mixture.weighting.theta.detach() - before).abs()
    torch.testing.assert_close(moved.max(), torch.tensor(0.02), rtol=1e-3, atol=0)  # Adam's first step


def test_a_gradient_scaler_that_skips_a_step_skips_the_weights_too(build: Callable[..., Any]) -> None:
    trainer = build("nnUNetTrainerLoMix_normalized")
    trainer.initialize()
    trainer.on_train_epoch_start()
    theta = trainer.mixing.mixture.weighting.theta
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=float("inf"))
    step(trainer)
    assert not theta.any() and not trainer.optimizer.state
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    step(trainer)
    assert theta.abs().max() > 0.01 and theta.isfinite().all() and trainer.optimizer.state


def test_regions_and_an_ignore_label_train(build: Callable[..., Any]) -> None:
    labels = {"background": 0, "bones": [1, 2], "lungs": [3, 4], "left": 4, "ignore": 5}
    trainer = build("nnUNetTrainerLoMix", labels=labels, regions_class_order=[1, 3, 4])
    trainer.initialize()
    trainer.on_train_epoch_start()
    assert trainer.mixing.mixture.multilabel and trainer.mixing.mixture.num_classes == 3
    losses = [step(trainer) for _ in range(4)]
    assert losses[-1] < losses[0]
    trainer.network.eval()
    with torch.no_grad():
        assert np.isfinite(trainer.validation_step(batch(trainer))["loss"])


@pytest.mark.parametrize(
    ("name", "line", "saved"),
    [
        (
            "nnUNetTrainerNoDeepSupervisionLoMix",
            "LoMix: deep supervision is switched off, so there is one output; nnU-Net's own loss is used.",
            "nnUNetTrainer",
        ),
        (
            "nnUNetTrainerOneOutputLoMix",
            "LoMix: Conv2d has 1 output; a mixture needs at least 2. nnU-Net's own loss is used, without deep "
            "supervision.",
            "nnUNetTrainerOneOutput",
        ),
    ],
)
def test_without_two_outputs_nnunets_own_loss_trains(
    build: Callable[..., Any], name: str, line: str, saved: str
) -> None:
    trainer = build(name)
    trainer.initialize()
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    trainer.on_train_epoch_start()
    assert line in log_of(trainer) and type(trainer.loss).__name__ == "DC_and_CE_loss"
    step(trainer)
    with torch.no_grad():
        trainer.validation_step(batch(trainer))
    trainer.on_train_epoch_end([{"loss": np.zeros(1)}])
    trainer.save_checkpoint(file := f"{trainer.output_folder}/checkpoint_best.pth")
    assert torch.load(file, weights_only=False)["trainer_name"] == saved
    trainer.load_checkpoint(file)
    assert not list(Path(trainer.output_folder).glob("*lomix*"))


def test_trainers_of_nnunets_own_are_built_upon(build: Callable[..., Any]) -> None:
    trainer = build("nnUNetTrainerDiceLossLoMix_anneal_3stages_4epochs")
    trainer.initialize()
    assert "LoMix: nnUNetTrainerDiceLoss has a loss of its own, which the mixture replaces." in log_of(trainer)
    assert "LoMix: 19 maps of the finest 3 of 4 outputs" in log_of(trainer)
    trainer.num_iterations_per_epoch = 2
    trainer.current_epoch = 2  # half of the training is over: all weight is on the finest map
    trainer.on_train_epoch_start()
    step(trainer)
    assert trainer.mixing.mixture.mixture().concentration().effective_maps == 1
    warm = build("nnUNetTrainer_warmupLoMix_normalized")
    warm.initialize()
    warm.optimizer, warm.lr_scheduler = warm.configure_optimizers("train")  # the same optimizer once more
    warm.on_train_epoch_start()
    step(warm)
    assert {int(state["step"]) for state in warm.mixing.optimizer.state.values()} == {1}


def test_the_search_of_nnunet_tells_the_nearest_name(
    build: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find

    assert find("nnUNetTrainerLoMix_anneal_250epochs").lomix.epochs == 250
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer nnUNetTrainerLoMix_aneal"):
        find("nnUNetTrainerLoMix_aneal")
    assert "Try:  -tr nnUNetTrainerLoMix_anneal\n" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer nnUNetTrainerNoneLoMix"):
        find("nnUNetTrainerNoneLoMix_anneal")
    said = capsys.readouterr().out
    assert "nnU-Net finds no nnUNetTrainerNone to build it upon." in said
    assert "-tr nnUNetTrainerLoMix_anneal, or name the folder of nnUNetTrainerNone in nnUNet_extTrainer\n" in said


def test_another_version_of_nnunet_is_told_in_the_log(
    build: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nnunetv2-2.9.0.dist-info").mkdir()
    (tmp_path / "nnunetv2-2.9.0.dist-info" / "METADATA").write_text("Name: nnunetv2\nVersion: 2.9.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    trainer = build("nnUNetTrainerLoMix")
    trainer.initialize()
    assert log_of(trainer).count("WARNING: LoMix was tested with nnunetv2 2.8; this is 2.9.0. If anything fails: ") == 1
