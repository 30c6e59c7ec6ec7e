"""``search`` with an optimizer that the user built, or a function that builds one."""

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import same
from support.shapes import Shapes, build
from torch import nn

import lomix_search as lomix
from lomix_search.errors import RunError
from lomix_search.recipe.sections import OptimizerSection, SearchSection
from lomix_search.training.optimizer import build_optimizer, trained_groups
from lomix_search.training.result import Result
from lomix_search.training.state import TrainingPlan, TrainingState

Make = Callable[[nn.Module, lomix.MixtureLoss], Any]


def run(folder: Path, make: Make | None, **changes: Any) -> Result:
    net, loss = build("deep_supervision")
    own = {} if make is None else {"optimizer": make(net, loss)}
    settings = {"steps": 4, "batch_size": 2, "checkpoint_every": 2, "progress": False} | changes
    return lomix.search(net, loss, Shapes(6), Shapes(1), folder=folder, **settings, **own)


def everything(net: nn.Module, loss: nn.Module) -> list[nn.Parameter]:
    return [*net.parameters(), *loss.parameters()]


RMSPROP = functools.partial(torch.optim.RMSprop, lr=1e-3, momentum=0.5)


def test_it_takes_the_steps_of_the_same_optimizer_by_name(tmp_path: Path) -> None:
    run(tmp_path / "name", None, lr=1e-3, weight_decay=0.01, schedule="poly")
    make: Make = lambda net, loss: torch.optim.AdamW(everything(net, loss), lr=1e-3, weight_decay=0.01)  # noqa: E731
    run(tmp_path / "object", make, schedule="poly")
    same(tmp_path / "object", tmp_path / "name")


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [lambda net, loss: RMSPROP(everything(net, loss)), lambda net, loss: RMSPROP], ids=["object", "function"]
)
def test_a_run_goes_on_with_it_bit_for_bit(make: Make, tmp_path: Path) -> None:
    run(tmp_path / "whole", make)
    run(tmp_path / "cut", make, steps=2)
    run(tmp_path / "cut", make, resume=True)
    same(tmp_path / "cut", tmp_path / "whole")


def test_another_class_or_other_options_are_refused_by_name(tmp_path: Path) -> None:
    run(tmp_path, lambda net, loss: RMSPROP(everything(net, loss)), steps=2)
    others: dict[str, Make] = {
        "optimizer.name: RMSprop before, Adam now": lambda net, loss: torch.optim.Adam(everything(net, loss)),
        "'lr': 0.01": lambda net, loss: RMSPROP(everything(net, loss), lr=1e-2),
        "optimizer.name: RMSprop before, AdamW now": lambda net, loss: "AdamW",
    }
    for told, make in others.items():
        with pytest.raises(RunError, match="was started with other settings") as caught:
            run(tmp_path, make, resume=True)
        assert told in str(caught.value)


def lacks_the_loss(net: nn.Module, loss: nn.Module) -> Any:
    return torch.optim.Adam(net.parameters())


def lacks_the_heads(net: Any, loss: nn.Module) -> Any:
    return torch.optim.Adam([*net.model.parameters(), *loss.parameters()])


def of_another_network(net: nn.Module, loss: nn.Module) -> Any:
    return torch.optim.Adam([*everything(net, loss), *copy.deepcopy(net).parameters()])


def fails(groups: Any) -> Any:
    raise TypeError("lr is missing")


REFUSED: dict[str, tuple[Make, tuple[str, ...]]] = {
    "without the loss": (
        lacks_the_loss,
        ("Adam lacks 1 parameters that are to be trained.", "loss.weighting.theta", "*loss.parameter_groups()"),
    ),
    "without the heads": (lacks_the_heads, ("lacks 2 parameters", "heads.", "[*net.parameters(), *loss.parameters()]")),
    "of another network": (
        of_another_network,
        ("parameters of neither this network nor this loss", "after instrument()"),
    ),
    "needs a closure": (
        lambda net, loss: torch.optim.LBFGS(everything(net, loss)),
        ("LBFGS computes the loss several",),
    ),
    "a module": (lambda net, loss: 3, ("optimizer is a int; a name, an optimizer, or a function",)),
    "a function that fails": (lambda net, loss: fails, ("lr is missing", "functools.partial")),
    "a function of nothing": (lambda net, loss: lambda groups: None, ("returns a NoneType, not an optimizer",)),
    "an unknown name": (lambda net, loss: "Lion", ("name = 'Lion': unknown. Known: AdamW, SGD.",)),
    "a name of torch's": (
        lambda net, loss: "Adam",
        ("give functools.partial(torch.optim.Adam, lr=0.001) for this one",),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_train_all_is_refused_before_the_first_step(name: str, tmp_path: Path) -> None:
    make, told = REFUSED[name]
    with pytest.raises(RunError) as caught:
        run(tmp_path / "run", make)
    assert all(part in str(caught.value) for part in told), str(caught.value)
    assert not (tmp_path / "run").exists()


def test_options_of_its_own_are_not_taken_beside_it(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        run(tmp_path / "run", lambda net, loss: RMSPROP, lr=1e-3, momentum=0.9)
    assert "has 2 faults" in str(caught.value) and "lr: give it to the optimizer that you build" in str(caught.value)


class Odd(torch.optim.SGD):
    """Keeps what no checkpoint may hold."""

    def step(self, closure: Any = None) -> Any:
        self.state[self.param_groups[0]["params"][0]]["path"] = Path()
        return super().step(closure)


def test_a_state_that_checkpoints_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Odd keeps a PosixPath in its state"):
        run(tmp_path, lambda net, loss: Odd(everything(net, loss), lr=0.1))


def test_frozen_parts_need_not_be_in_it(tmp_path: Path) -> None:
    def make(net: Any, loss: nn.Module) -> Any:
        net.heads.requires_grad_(False)
        return torch.optim.Adam([p for p in everything(net, loss) if p.requires_grad])

    run(tmp_path, make, steps=1)
    assert (tmp_path / "final.pt").exists()


@pytest.mark.parametrize("net", [nn.Conv2d(1, 1, 1), lambda images: images])
def test_a_network_that_is_not_instrumented_is_refused(net: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="needs an instrumented network") as caught:
        lomix.search(net, build("deep_supervision")[1], Shapes(), folder=tmp_path / "run", progress=False)
    assert "lomix.instrument" in str(caught.value) and not (tmp_path / "run").exists()


def test_sgd_moves_the_weights_without_momentum_and_checkpoints_of_before_go_on_as_they_were(tmp_path: Path) -> None:
    plan = TrainingPlan(SearchSection(steps=2), OptimizerSection(name="SGD", momentum=0.99, lr=0.01))
    now = TrainingState(*build("deep_supervision"), plan, tmp_path)
    assert [group["momentum"] for group in now.optimizer.param_groups] == [0.99, 0.0]
    assert now.optimizer.param_groups[1]["lr"] == 1e-3 and now.optimizer.param_groups[1]["weight_decay"] == 0
    before = TrainingState(*build("deep_supervision"), plan, tmp_path)
    before._train_by(build_optimizer(plan.optimizer, trained_groups(before.net, before.loss)))
    before.open(resume=False)
    now.open(resume=True)
    (group,) = now.optimizer.param_groups
    assert group["momentum"] == 0.99 and len(group["params"]) == len(now.parameters) == len(before.parameters)
    adam = trained_groups(now.net, now.loss)
    assert len(adam) == 1  # as in the paper
