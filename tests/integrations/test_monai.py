"""LoMix in MONAI's own engines: training, validation, checkpoints, trackers."""

import logging
from pathlib import Path

import monai
import pytest
import torch
from support.monai_engines import EXAMPLE, Training, dynunet, in_two_processes, items, loader, trained_by
from torch import Tensor, nn

import lomix_search as lomix
from lomix_search.errors import RunError
from lomix_search.integrations.monai import LoMixHandler, LoMixLoss
from lomix_search.mixture.mixture import Mixture

pytestmark = pytest.mark.monai


def test_a_training_with_everything_of_monai(tmp_path: Path) -> None:
    from monai.handlers import MeanDice, StatsHandler, TensorBoardStatsHandler, from_engine
    from monai.transforms import AsDiscreted, Compose
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoardStatsHandler(log_dir=str(tmp_path), output_transform=from_engine(["loss"], first=True))
    dice = MeanDice(include_background=False, output_transform=from_engine(["pred", "label"]))
    run = Training(
        tmp_path,
        train_handlers=[StatsHandler(output_transform=from_engine(["loss"], first=True)), board],
        postprocessing=Compose([AsDiscreted(keys=["pred", "label"], argmax=[True, False], to_onehot=3)]),
        key_train_metric={"dice": dice},
        accumulation_steps=2,
    )
    before = [p.detach().clone() for p in (*run.net.parameters(), *run.loss.parameters())]
    run.trainer.run()
    board.close()
    after = [*run.net.parameters(), *run.loss.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    last = run.trainer.state.output[0]  # decollated, and the finest map alone
    assert last["pred"].shape == (3, 32, 32) and isinstance(last["loss"], float)
    mixture = Mixture.load(tmp_path / "mixture.json")
    assert mixture.weights == pytest.approx(run.loss.mixture().weights)
    assert [stage.name for stage in mixture.stages] == ["upsamples.0", "upsamples.1", "upsamples.2"]
    assert mixture.provenance.network == "DynUNet" and mixture.provenance.steps == 8
    assert run.trainer.state.metrics["lomix/add_1_2"] == pytest.approx(mixture.weights["add(1,2)"])
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [round(one.value, 4) for one in events.Scalars("lomix/P3")][-1] == round(mixture.weights["P3"], 4)


def test_validation_with_the_same_network_is_that_of_the_bare_one(tmp_path: Path) -> None:
    from monai.engines import SupervisedEvaluator
    from monai.handlers import ValidationHandler
    from monai.inferers import SlidingWindowInferer

    seen: list[Tensor] = []
    run = Training(tmp_path, epochs=1)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader(2),
        network=run.net,
        inferer=SlidingWindowInferer((16, 16), sw_batch_size=4),
        decollate=False,
    )
    ValidationHandler(1, evaluator).attach(run.trainer)
    evaluator.add_event_handler("MODEL_COMPLETED", lambda engine: seen.append(engine.state.output["pred"]))
    run.trainer.run()
    bare = dynunet()
    bare.load_state_dict(run.unet.state_dict())  # the very keys of the stock network
    bare.eval()
    images = torch.stack([item["image"] for item in items(2)])
    with torch.no_grad():
        wanted = SlidingWindowInferer((16, 16), sw_batch_size=4)(images, bare)
    assert torch.equal(seen[0], wanted)


def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path) -> None:
    from monai.handlers import CheckpointLoader, CheckpointSaver

    def parts(run: Training) -> list[Tensor]:
        moments = [value for state in run.optimizer.state.values() for value in state.values()]
        return [*run.unet.state_dict().values(), *run.net.heads.parameters(), *run.loss.state_dict().values(), *moments]

    whole = Training(tmp_path / "whole", epochs=3)
    whole.trainer.run()
    first = Training(tmp_path / "parts", epochs=2)
    CheckpointSaver(str(tmp_path), first.state, save_final=True, final_filename="last.pt").attach(first.trainer)
    first.trainer.run()
    again = Training(tmp_path / "parts", epochs=3)
    CheckpointLoader(str(tmp_path / "last.pt"), again.state).attach(again.trainer)
    again.trainer.run()
    assert all(torch.equal(a, b) for a, b in zip(parts(whole), parts(again), strict=True))
    whole_file, again_file = (tmp_path / name / "mixture.json" for name in ("whole", "parts"))
    assert whole_file.read_bytes() == again_file.read_bytes()
    stock = dynunet()
    CheckpointLoader(str(tmp_path / "last.pt"), {"network": stock})(first.trainer)  # no LoMix in load_dict
    assert all(torch.equal(a, b) for a, b in zip(stock.parameters(), first.unet.parameters(), strict=True))


def test_two_processes_are_one_with_the_whole_batch(tmp_path: Path) -> None:
    from monai.data import DataLoader

    def train(rank: int) -> None:
        share = DataLoader(items(4)[2 * rank : 2 * rank + 2], batch_size=2)
        folder = tmp_path / str(rank)
        run = Training(folder, epochs=3, train_data_loader=share, wrap=nn.parallel.DistributedDataParallel)
        run.trainer.run()
        torch.save([p.detach() for p in (*run.net.parameters(), *run.loss.parameters())], tmp_path / f"{rank}.pt")
        assert (folder / "mixture.json").exists() == (rank == 0)

    in_two_processes(train, tmp_path / "meeting")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    alone = Training(tmp_path, epochs=3, train_data_loader=DataLoader(items(4), batch_size=4))
    alone.trainer.run()
    for a, b in zip(first, [*alone.net.parameters(), *alone.loss.parameters()], strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-3, atol=1e-4)


def test_a_checkpoint_of_another_mixture_is_refused(tmp_path: Path) -> None:
    run, other = Training(tmp_path), Training(tmp_path, weighting="uniform")
    with pytest.raises(RunError, match="the checkpoint holds a mixture of another space, weighting or network."):
        run.lomix.load_state_dict(other.lomix.state_dict())


def test_the_deep_supervision_of_monais_own_networks(tmp_path: Path) -> None:
    from monai.engines import SupervisedTrainer

    net = dynunet(deep_supervision=True)
    loss = LoMixLoss("lomix", 3, 3, weighting="anneal")
    optimizer = trained_by(net, loss)
    handler = LoMixHandler(loss, path=tmp_path / "mixture.json")
    trainer = SupervisedTrainer(
        device="cpu", max_epochs=2, train_data_loader=loader(), network=net, optimizer=optimizer, loss_function=loss,
        train_handlers=[handler],
    )  # fmt: skip
    trainer.run()
    assert trainer.state.output[0]["pred"].shape == (3, 32, 32)
    weights = Mixture.load(tmp_path / "mixture.json").weights  # the schedule was told how far training had come
    assert weights["P3"] == sum(weights.values()) == len(weights)


def test_amp_on_a_cpu_changes_nothing(tmp_path: Path) -> None:
    plain, amp = Training(tmp_path / "a", epochs=1), Training(tmp_path / "b", epochs=1, amp=True)
    plain.trainer.run()
    with pytest.warns(UserWarning, match="CUDA"):  # MONAI's amp is CUDA's; the scaler and autocast stand aside
        amp.trainer.run()
    assert torch.equal(plain.loss.weighting.weights(), amp.loss.weighting.weights())


def test_half_precision_by_an_inferer_of_the_users(tmp_path: Path) -> None:
    from monai.inferers import SimpleInferer

    class Half(SimpleInferer):
        def __call__(self, inputs, network, *args, **kwargs):  # type: ignore[no-untyped-def]
            with torch.autocast("cpu", torch.bfloat16):
                return super().__call__(inputs, network, *args, **kwargs)

    run = Training(tmp_path, epochs=1, inferer=Half())
    run.trainer.run()
    assert run.trainer.state.output[0]["pred"].dtype == torch.bfloat16
    assert all(p.isfinite().all() for p in (*run.net.parameters(), *run.loss.parameters()))


def refused(run: Training, **changed: object) -> str:
    """Return what a trainer says that was set up wrong."""
    for name, value in changed.items():
        setattr(run.trainer, name, value)
    with pytest.raises(RunError) as caught:
        run.trainer.run()
    return str(caught.value)


def test_what_is_set_up_wrong_is_said_before_the_first_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from monai.losses import DeepSupervisionLoss

    run = Training(tmp_path)
    lone = torch.optim.Adam(run.net.parameters())
    with caplog.at_level(logging.ERROR):
        assert refused(run, optimizer=lone).splitlines()[:2] == [
            "Adam lacks 13 of LoMix's parameters; they would stay as they are.",
            "  Seen: operators.attention[2].weight, operators.attention[2].bias, operators.attention[3].weight, "
            "operators.attention[3].bias, …",
        ]
    assert "Adam lacks 13 of LoMix's parameters" in caplog.text  # the engine's log has it too
    run = Training(tmp_path)
    assert refused(run, loss_function=DeepSupervisionLoss(run.loss)) == (
        "the trainer's loss_function is a DeepSupervisionLoss, not the loss of LoMixHandler.\n"
        "  Seen: DeepSupervisionLoss would call it map by map\n"
        "  Try:  SupervisedTrainer(…, loss_function=loss, train_handlers=[LoMixHandler(loss, net), …])"
    )
    run = Training(tmp_path)
    assert refused(run, network=run.unet) == (
        "the trainer's network is a DynUNet, not the one of LoMixHandler.\n"
        "  Try:  net = lomix.instrument(unet, example), then SupervisedTrainer(…, network=net)"
    )


def test_deep_supervision_that_is_off_is_said_at_the_first_step(tmp_path: Path) -> None:
    from monai.engines import SupervisedTrainer

    net, loss = dynunet(), LoMixLoss("lomix", 3, 3)
    trainer = SupervisedTrainer(
        device="cpu", max_epochs=1, train_data_loader=loader(), network=net, optimizer=trained_by(net, loss),
        loss_function=loss, train_handlers=[LoMixHandler(loss, path=None)],
    )  # fmt: skip
    with pytest.warns(UserWarning, match="one map"), pytest.raises(RunError) as caught:
        trainer.run()
    assert str(caught.value) == (
        "the network returned one map (2, 3, 32, 32) in training; the loss mixes 3, so that only the last layer would "
        "be trained. Its deep supervision is off, or it is not instrumented.\n"
        "  Try:  DynUNet(…, deep_supervision=True), or lomix.instrument(…)"
    )


def test_handlers_in_the_wrong_place(tmp_path: Path) -> None:
    from monai.engines import SupervisedEvaluator

    run = Training(tmp_path)
    with pytest.raises(RunError, match="this trainer has a LoMixHandler already; two would mix twice."):
        LoMixHandler(run.loss, run.net).attach(run.trainer)
    evaluator = SupervisedEvaluator(device=torch.device("cpu"), val_data_loader=loader(2), network=run.net)
    with pytest.raises(RunError, match="LoMixHandler belongs to an engine that trains, not to a SupervisedEvaluator."):
        LoMixHandler(run.loss, run.net).attach(evaluator)
    with pytest.raises(
        RunError, match=r"LoMixHandler\(loss\) without a network .* LoMixLoss reads them, not MixtureLoss."
    ):
        LoMixHandler(run.loss)
    with pytest.raises(RunError, match=r"LoMixHandler\(loss, network\) needs an instrumented network, not a DynUNet."):
        LoMixHandler(run.loss, run.unet)


def test_another_version_is_said_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import lomix_search.integrations.monai.handler as module

    monkeypatch.setattr(module, "TESTED_MONAI", "0.9")
    run = Training(tmp_path, epochs=1)
    run.lomix.logger.addHandler(caplog.handler)
    run.trainer.run()
    run.lomix.logger.removeHandler(caplog.handler)
    assert f"LoMix was tested with monai 0.9; this is {monai.__version__}." in caplog.text


def test_a_compiled_network_is_known_as_the_one_inside() -> None:
    net = lomix.instrument(dynunet(), EXAMPLE)
    loss = lomix.MixtureLoss.for_network(net)
    assert LoMixHandler(loss, torch.compile(net)).net is net  # type: ignore[arg-type]
