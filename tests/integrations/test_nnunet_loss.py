"""The mixture in the place of nnU-Net's deep supervision: lists, numbers and optimizer."""

import copy
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from support.forked import two_processes
from torch import Tensor

from lomix_search.errors import LossError
from lomix_search.integrations.nnunet.loss import DeepSupervisionMixture
from lomix_search.integrations.nnunet.names import TrainerChoice

IGNORE = 3


def mixing(weighting: str = "softplus", **changes: Any) -> DeepSupervisionMixture:
    options = {
        "num_outputs": 5,
        "num_classes": 3,
        "regions": False,
        "ignore_label": None,
        "batch_dice": True,
        "steps": 100,
    }
    return DeepSupervisionMixture(TrainerChoice(weighting=weighting), **(options | changes))


def outputs(batch: int = 2, channels: int = 3, number: int = 5) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(batch, channels, 32 // 2**i, 32 // 2**i, requires_grad=True) for i in range(number)]


def targets(batch: int = 2, most: int = 3) -> list[Tensor]:
    finest = torch.randint(0, most, (batch, 1, 32, 32), generator=torch.Generator().manual_seed(2)).float()
    return [finest[..., :: 2**i, :: 2**i] for i in range(5)]


def region_targets(batch: int = 2) -> list[Tensor]:
    """Three regions and, as the last channel, what is ignored."""
    drawn = torch.rand(batch, 4, 32, 32, generator=torch.Generator().manual_seed(3)) > 0.6
    return [drawn[..., :: 2**i, :: 2**i] for i in range(5)]


def test_the_finest_four_count_and_the_finest_comes_first() -> None:
    loss, given = mixing("uniform"), outputs()
    loss(given, targets()).backward()
    assert given[4].grad is None and all(one.grad is not None for one in given[:4])
    truth = targets()[0].long()[:, 0]
    by_hand = torch.nn.functional.cross_entropy(given[0], truth)
    found = float(loss.mixture.per_map.losses[3])
    p = given[0].softmax(1)[:, 1:]
    y = torch.stack([truth == 1, truth == 2], 1).float()
    dice = (2 * (p * y).sum((0, 2, 3)) + 1e-5) / (p.sum((0, 2, 3)) + y.sum((0, 2, 3)) + 1e-5)
    assert loss.mixture.map_ids[3] == "P4"
    assert math.isclose(found, float((by_hand + 1 - dice.mean()).detach()), rel_tol=1e-5)


def test_the_size_of_the_weights_does_not_change_the_size_of_the_loss() -> None:
    loss = mixing()
    first = loss(outputs(), targets())
    torch.testing.assert_close(first.detach(), loss.mixture.per_map.losses.mean())
    with torch.no_grad():
        loss.mixture.weighting.theta.fill_(-5.0)
    again = loss(outputs(), targets())
    torch.testing.assert_close(first, again)
    again.backward()
    assert (loss.mixture.weighting.theta.grad > 0).all()  # the paper's gradient: it only falls


def test_weights_fall_by_no_more_than_three_in_a_whole_training() -> None:
    loss = mixing(steps=60_000)
    assert math.isclose(loss.weights_lr * 60_000, 3.0)
    loss = mixing(steps=5)
    given = outputs()
    for step in range(5):
        loss.begin_step(step / 5)
        loss(given, targets()).backward()
        loss.end_step()
    theta = loss.mixture.weighting.theta.detach()
    assert -0.0051 < float(theta.min()) <= float(theta.max()) < -0.004
    assert all(not group.get("weight_decay") for group in loss.optimizer.param_groups[1:])


def test_a_scaled_loss_moves_the_weights_as_an_unscaled_one_and_an_infinite_one_not_at_all() -> None:
    found = []
    for scale in (1.0, 4096.0):
        torch.manual_seed(0)  # operators begin at random
        loss = mixing("normalized")
        loss.begin_step(0.0)
        (loss(outputs(), targets()) * scale).backward()
        loss.end_step(scale)
        theta = loss.mixture.weighting.theta
        found.append(loss.optimizer.state[theta]["exp_avg"].clone())
    torch.testing.assert_close(*found)
    before = theta.detach().clone()
    loss.begin_step(0.0)
    (loss(outputs(), targets()) * math.inf).backward()
    loss.end_step()
    assert torch.equal(theta, before) and before.abs().max() > 0.01
    loss.begin_step(0.0)  # what was infinite is gone
    loss(outputs(), targets()).backward()
    loss.end_step()
    assert theta.isfinite().all() and not torch.equal(theta, before)


def test_a_state_goes_on_exactly_and_that_of_another_mixture_leaves_all_as_it_was() -> None:
    def step(loss: DeepSupervisionMixture) -> None:
        loss.begin_step(0.5)
        loss(outputs(), targets()).backward()
        loss.end_step()

    one, other = mixing("normalized"), mixing("normalized")
    step(one)
    other.load_state(copy.deepcopy(one.state()))
    step(one)
    step(other)
    for name, value in one.mixture.state_dict().items():
        assert torch.equal(value, other.mixture.state_dict()[name]), name
    before = {name: value.clone() for name, value in one.mixture.state_dict().items()}
    with pytest.raises(RuntimeError):
        one.load_state(mixing("normalized", num_outputs=3).state())
    assert all(torch.equal(value, before[name]) for name, value in one.mixture.state_dict().items())


def test_nothing_is_learned_of_fixed_weights_and_operators_without_parameters() -> None:
    options = {
        "num_outputs": 4,
        "num_classes": 3,
        "regions": False,
        "ignore_label": None,
        "batch_dice": True,
        "steps": 9,
    }
    loss = DeepSupervisionMixture(TrainerChoice(weighting="uniform", space="deep_supervision"), **options)
    loss.begin_step(0.0)
    loss(outputs(), targets()).backward()
    loss.end_step()
    assert loss.optimizer is None and loss.state()["optimizer"] is None


def test_one_output_where_several_are_expected_is_told() -> None:
    with pytest.raises(LossError) as caught:
        mixing()(outputs()[0], targets())
    assert str(caught.value) == (
        "the network gave 1 outputs; 4 were expected, deep supervision being on.\n"
        "  Try:  -tr nnUNetTrainerNoDeepSupervision"
    )


@pytest.mark.nnunet
@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("ignores", [False, True])
def test_a_map_has_nnunets_own_loss_plus_one(regions: bool, ignores: bool, batch_dice: bool) -> None:
    from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    dice = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": regions, "ddp": False}
    if regions:
        theirs = DC_and_BCE_loss({}, dice, use_ignore_label=ignores, dice_class=MemoryEfficientSoftDiceLoss)
        labels = [one if ignores else one[:, :-1] for one in region_targets()]
    else:
        ignore = IGNORE if ignores else None
        theirs = DC_and_CE_loss(dice, {}, ignore_label=ignore, dice_class=MemoryEfficientSoftDiceLoss)
        labels = targets(most=4 if ignores else 3)
    loss = mixing("uniform", regions=regions, ignore_label=IGNORE if ignores else None, batch_dice=batch_dice)
    ours, same = outputs(), outputs()
    loss(ours, labels)
    torch.testing.assert_close(loss.mixture.per_map.losses[3], theirs(same[0], labels[0]).detach() + 1)
    alone = DeepSupervisionMixture(
        TrainerChoice(space="last_layer", weighting="uniform"),
        5, 3, regions, IGNORE if ignores else None, batch_dice, 9,
    )  # fmt: skip
    alone(ours, labels).backward()
    theirs(same[0], labels[0]).backward()
    torch.testing.assert_close(ours[0].grad, same[0].grad, rtol=1e-4, atol=1e-8)


def _one_step(part: slice, several: bool, regions: bool) -> dict[str, Tensor]:
    """Take a step on a part of three images; returns the outputs' gradients and what the mixture learned."""
    ignore = IGNORE if regions else None
    loss = mixing("normalized", batch_dice=not regions, regions=regions, ignore_label=ignore, several=several)
    given = [one[part].detach().requires_grad_() for one in outputs(3)]
    loss.begin_step(0.0)
    loss(given, [one[part] for one in (region_targets(3) if regions else targets(3))]).backward()
    loss.end_step()
    learned = {name: value.detach().clone() for name, value in loss.mixture.state_dict().items()}
    return learned | {"unused": given[4].grad if several else torch.zeros(1)}


def _process(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    part = slice(0, 1) if rank == 0 else slice(1, 3)
    torch.manual_seed(rank)  # what is learned must begin alike all the same
    found = [_one_step(part, True, regions) for regions in (False, True)]
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_of_the_whole_batch(tmp_path: Path) -> None:
    two_processes(_process, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for regions in (False, True):
        torch.manual_seed(0)
        whole = _one_step(slice(0, 3), False, regions)
        for name in whole.keys() - {"unused"}:
            torch.testing.assert_close(first[regions][name], second[regions][name], rtol=0, atol=0)
            if name.startswith("weighting"):
                torch.testing.assert_close(first[regions][name], whole[name], rtol=1e-3, atol=1e-5)
        assert first[regions]["unused"].shape == (1, 3, 2, 2) and not first[regions]["unused"].any()
