"""Held-out gradients: exact against the unrolled derivative, leaving no trace, and finding what is planted."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks import nets
from support.mixture_losses import built
from support.shapes import CLASSES, Shapes
from support.zoo import SmallUNet
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import ConcatDataset, Subset

import lomix_search as lomix
from lomix_search.data.subsets import check_apart
from lomix_search.errors import RunError
from lomix_search.mixture.loss.resize import resize_maps
from lomix_search.mixture.operators import OPERATORS, operator
from lomix_search.mixture.rules import OperatorRule
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Lookahead, Softplus
from lomix_search.training import map_slopes
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.held_out import Looker, covered, finest_loss, held_out_gradient
from lomix_search.training.trackers import read_lines

METHODS = sorted(map_slopes.METHODS)
Batch = tuple[Tensor, Tensor]


def plain() -> torch.autocast:
    return torch.autocast("cpu", enabled=False)


def smooth(width: int = 4) -> nn.Module:
    """A small U-Net whose losses are smooth in its parameters: differences of functions with kinks are not exact."""
    torch.manual_seed(2)
    net = SmallUNet(width=width)
    net.dropout = nn.Identity()
    for module in net.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.GELU())
    return net


def batches(dtype: torch.dtype = torch.float64) -> tuple[Batch, Batch]:
    torch.manual_seed(4)
    one, other = ((torch.rand(3, 1, 16, 16, dtype=dtype), torch.randint(0, 3, (3, 16, 16))) for _ in range(2))
    return one, other


def unrolled(net: nn.Module, loss: lomix.MixtureLoss, train: Batch, held: Batch, eta: float) -> tuple[Tensor, Tensor]:
    """Take one step with weights w and differentiate the held-out loss by them, through the step; w as (m,) too.

    Also returns the parameters' held-out gradient after the step, laid out by name.
    """
    loss = copy.deepcopy(loss)
    loss.engine = "reference"
    finest = finest_loss(loss)
    w = torch.linspace(0.5, 1.5, len(loss.maps), dtype=torch.float64, requires_grad=True)
    parameters = dict(net.named_parameters())
    buffers = {name: b.clone() for name, b in net.named_buffers()}
    losses = loss._losses(resize_maps(net(train[0]), train[1].shape[1:]), train[1], train[1])
    step = torch.autograd.grad((w * losses).sum(), list(parameters.values()), create_graph=True, allow_unused=True)
    after = {name: p if g is None else p - eta * g for (name, p), g in zip(parameters.items(), step, strict=True)}
    total = finest(functional_call(net, (after, buffers), (held[0],)), held[1])
    v = torch.autograd.grad(total, list(after.values()), retain_graph=True, allow_unused=True)
    direction = {
        name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(parameters.items(), v, strict=True)
    }
    return torch.autograd.grad(total, w)[0], direction


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_derivative_is_that_of_the_unrolled_step(method: str) -> None:
    net, loss = built(smooth())
    net, loss = net.double(), loss.double()
    train, held = batches()
    exact, v = unrolled(net, loss, train, held, eta=0.05)
    slopes = map_slopes.METHODS[method](net, loss, *train, v, plain)
    torch.testing.assert_close(-0.05 * slopes, exact, rtol=1e-6, atol=1e-6 * float(exact.abs().max()))
    assert exact.abs().min() > 0 and exact.std() > 0.1 * exact.abs().max()  # there is something to get wrong


def test_before_the_step_it_is_the_limit_of_small_steps() -> None:
    net, loss = built(smooth())
    net, loss = net.double(), loss.double()
    train, held = batches()
    exact, _ = unrolled(net, loss, train, held, eta=1e-7)
    v = held_out_gradient(net, finest_loss(loss), *held, covered(net, ["*"]), plain)
    slopes = map_slopes.slopes_by_forward_mode(net, loss, *train, v, plain) / 1024  # the scale of held_out_gradient
    torch.testing.assert_close(-1e-7 * slopes, exact, rtol=1e-5, atol=1e-6 * float(exact.abs().max()))


@pytest.mark.parametrize(("method", "tolerance"), [("forward", 1e-3), ("difference", 3e-2)])
def test_single_precision_is_good_enough(method: str, tolerance: float) -> None:
    net, loss = built(smooth())
    train, held = batches(torch.float32)
    doubles = [copy.deepcopy(one).double() for one in (net, loss)]
    exact, v = unrolled(*doubles, (train[0].double(), train[1]), (held[0].double(), held[1]), eta=1.0)
    slopes = map_slopes.METHODS[method](net, loss, *train, {k: t.float() for k, t in v.items()}, plain)
    error = (-slopes.double() - exact).abs().max() / exact.abs().max()
    assert error < tolerance


@pytest.mark.parametrize("network", ["with dropout and batch norms", "with modules under two names"])
def test_a_look_leaves_no_trace(network: str) -> None:
    if network == "with dropout and batch norms":
        bare: nn.Module = SmallUNet(width=4)
    else:
        bare = nets.DynUNet(2, 1, 3, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 4, 8])
    net, loss = built(bare)
    before, parameters = copy.deepcopy(net.state_dict()), dict(net.named_parameters())
    looker = Looker(net, loss, Shapes(6), 4, 0, plain)
    train, _ = batches(torch.float32)
    state = torch.get_rng_state()
    looker.look(0, *train)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(p.grad is None for p in (*net.parameters(), *loss.parameters()))
    assert all(p is parameters[name] and p.requires_grad for name, p in net.named_parameters())
    assert looker.method == "forward"


class Hidden(torch.autograd.Function):
    """The identity, with a gradient and no forward-mode derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Opaque(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Hidden.apply(x)


def test_a_network_without_forward_mode_falls_back_to_differences() -> None:
    net, loss = built(smooth())
    opaque, _ = built(smooth())
    opaque.model.load_state_dict(net.model.state_dict())
    opaque.model.down[0].add_module("opaque", Opaque())
    train, _ = batches(torch.float32)
    scores = {}
    for one in (net, opaque):
        own = copy.deepcopy(loss)
        looker = Looker(one, own, Shapes(6), 4, 0, plain)
        scores[looker] = torch.tensor(looker.look(0, *train)["lookahead/slopes"])
    (first, one), (second, other) = scores.items()
    assert (first.method, second.method) == ("forward", "difference")
    torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3 * float(one.abs().max()))


def test_bfloat16_sees_nearly_the_same() -> None:
    net, loss = built(smooth())
    train, held = batches(torch.float32)
    finest, names = finest_loss(loss), covered(net, ["*"])
    found = []
    for kind in (plain, lambda: torch.autocast("cpu", torch.bfloat16)):
        v = held_out_gradient(net, finest, *held, names, kind)
        found.append(map_slopes.slopes_by_forward_mode(net, loss, *train, v, kind))
    assert torch.cosine_similarity(*found, dim=0) > 0.99


# -- held-out items ----------------------------------------------------------------------------------------------------


def test_held_out_items_are_of_no_other_set(tmp_path: Path) -> None:
    items = Shapes(12)
    check_apart(Subset(items, [0, 1]), {"training": Subset(Subset(items, range(2, 8)), [0, 1, 5])})
    with pytest.raises(RunError, match="1 held-out items are training items too"):
        check_apart(Subset(items, [0, 4]), {"training": Subset(Subset(items, range(2, 8)), [0, 1, 2])})
    with pytest.raises(RunError, match="the held-out set is empty"):
        check_apart(Subset(items, []), {})
    net, loss = built(SmallUNet(width=4))
    with pytest.raises(RunError, match="4 held-out items are validation items too"):
        lomix.search(net, loss, items, val := Shapes(4), held_out=val, folder=tmp_path / "a", progress=False)
    net, loss = built(SmallUNet(width=4), "softplus")
    with pytest.raises(RunError, match='the weighting "softplus" looks at no held-out items'):
        lomix.search(net, loss, items, held_out=Shapes(2), folder=tmp_path / "b", progress=False)


def test_covers_that_match_nothing_are_refused() -> None:
    net, _ = built(SmallUNet(width=4))
    assert all(name.startswith("model.up") for name in covered(net, ["up.*"]))
    assert covered(net, ["heads.*"]) == ("heads.0.weight", "heads.0.bias")
    with pytest.raises(RunError, match=r"weighting.covers = \['upp\*'\]: no trained parameter"):
        covered(net, ["upp*"])


# -- in the search -----------------------------------------------------------------------------------------------------


def run(folder: Path, steps: int = 12, resume: bool = False, train: Any = None, **settings: Any) -> Any:
    torch.manual_seed(2)
    net, loss = built(SmallUNet(width=4), interval=3)
    return lomix.search(
        net, loss, train or Shapes(), Shapes(4), folder=folder, classes=CLASSES, resume=resume, progress=False,
        steps=steps, batch_size=4, lr=1e-2, validate_every=6, checkpoint_every=2, seed=5, **settings,
    )  # fmt: skip


class Stopping(Shapes):
    """Raises Ctrl-C while an item is read, once."""

    left = 26

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().__getitem__(index)


@pytest.mark.slow
def test_a_search_with_looks_resumes_bit_for_bit(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", train=Stopping())
    run(tmp_path / "cut", resume=True)
    run(tmp_path / "whole")
    assert (tmp_path / "cut/mixture.json").read_bytes() == (tmp_path / "whole/mixture.json").read_bytes()
    cut, whole = (read_tensors(tmp_path / name / "final.pt") for name in ("cut", "whole"))
    assert all(torch.equal(cut[key], whole[key]) for key in whole)
    lines = read_lines(tmp_path / "cut/metrics.jsonl")
    assert [line["step"] for line in lines if "lookahead/slopes" in line] == [1, 4]  # the looks are over after half
    assert lines[0]["lookahead/method"] == "forward"


class Noting(Shapes):
    """Notes which items are read."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.read: list[int] = []

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.read.append(index)
        return super().__getitem__(index)


@pytest.mark.slow
@pytest.mark.parametrize("until", [0.5, 1.0])
def test_what_was_set_aside_joins_when_the_looks_are_over(until: float, tmp_path: Path) -> None:
    items = Noting(20)
    net, loss = built(SmallUNet(width=4), interval=100, until=until)
    settings = {"folder": tmp_path, "batch_size": 4, "progress": False, "checkpoint_every": 100}
    lomix.search(net, loss, items, steps=16, **settings)
    held, few, later = items.read[4:8], items.read[:4] + items.read[8:36], items.read[36:]  # one look, before step 1
    assert len(set(held)) == 4 and set(few) == set(range(20)) - set(held)
    assert set(later) == (set(range(20)) if until == 0.5 else set(few))
    items.read.clear()
    lomix.search(net, loss, items, steps=26, resume=True, **settings)
    assert (set(items.read) == set(range(20))) is (until == 0.5)  # a longer run does not look at them again


@pytest.mark.slow
def test_it_runs_in_half_precision_and_beside_other_data(tmp_path: Path) -> None:
    held = ConcatDataset([Shapes(3)])
    result = run(tmp_path, steps=4, precision="bf16", held_out=held)
    assert sum(result.mixture.weights.values()) == pytest.approx(6, rel=1e-5)


# -- planted cases -----------------------------------------------------------------------------------------------------


@pytest.fixture
def planted() -> Any:
    """Operators for a day: logits under another class's name, and logits of other places."""

    @operator("mislabelled", symmetric=True)
    def mislabelled(*maps: Tensor) -> Tensor:
        return torch.roll(sum(maps[1:], maps[0]), 1, dims=1)

    for i in range(4):

        @operator(f"elsewhere{i}", symmetric=True)
        def elsewhere(*maps: Tensor, i: int = i) -> Tensor:
            return torch.roll(sum(maps[1:], maps[0]), (5 + 2 * i, 11 - 3 * i), dims=(2, 3))

    yield
    for name in ["mislabelled", *(f"elsewhere{i}" for i in range(4))]:
        OPERATORS.pop(name)


def found(space: SearchSpace, kind: type, folder: Path, **settings: Any) -> dict[str, float]:
    torch.manual_seed(0)
    net = lomix.instrument(SmallUNet(width=4), torch.zeros(1, 1, 16, 16))
    maps = tuple(space.maps(len(net.stages)))
    loss = lomix.MixtureLoss(space, len(net.stages), 3, weighting=kind(maps, **settings))
    result = lomix.search(
        net, loss, Shapes(24), folder=folder, progress=False, steps=40, batch_size=4, lr=3e-3, checkpoint_every=60
    )
    return result.mixture.weights


@pytest.mark.slow
def test_a_map_with_wrong_labels_loses_its_weight(planted: None, tmp_path: Path) -> None:
    space = SearchSpace(name="planted", operator=(OperatorRule(name="add"), OperatorRule(name="mislabelled")))
    weights = found(space, Lookahead, tmp_path / "lookahead", interval=3)
    wrong = weights["mislabelled(1,2)"]
    assert wrong < 0.02 * sum(weights.values()) / len(weights)
    assert all(weight > 10 * wrong for name, weight in weights.items() if "mis" not in name)
    paper = found(space, Softplus, tmp_path / "softplus")
    assert paper["mislabelled(1,2)"] > 0.9 * sum(paper.values()) / len(paper)


@pytest.mark.slow
def test_the_one_map_that_helps_is_found_among_noise(planted: None, tmp_path: Path) -> None:
    rules = tuple(OperatorRule(name=name) for name in ("elsewhere0", "elsewhere1", "add", "elsewhere2", "elsewhere3"))
    space = SearchSpace(name="planted", originals="finest", operator=rules)
    weights = found(space, Lookahead, tmp_path, interval=3, finest=0.3)
    others = {name: weight for name, weight in weights.items() if name != "P2"}
    assert max(others, key=lambda name: others[name]) == "add(1,2)"
    assert weights["add(1,2)"] > 5 * max(weight for name, weight in others.items() if "else" in name)


# -- several processes -------------------------------------------------------------------------------------------------


def _one_process(number: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=number, world_size=2)
    torch.manual_seed(2)
    net, loss = built(smooth(), normalize="norm")
    looker = Looker(net, loss, Shapes(6), 4, 0, plain)
    torch.manual_seed(100 + number)  # batches of its own
    seen = looker.look(0, torch.rand(3, 1, 16, 16), torch.randint(0, 3, (3, 16, 16)))
    torch.save({"weights": loss.weighting.weights(), "slopes": seen["lookahead/slopes"]}, f"{folder}/{number}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_agree_on_the_mean(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(_one_process, (str(tmp_path),), nprocs=2, start_method="fork")
    one, other = (torch.load(tmp_path / f"{i}.pt") for i in range(2))
    assert torch.equal(one["weights"], other["weights"]) and one["slopes"] == other["slopes"]
    alone = []
    for number in range(2):
        torch.manual_seed(2)
        net, loss = built(smooth(), normalize="norm")
        looker = Looker(net, loss, Shapes(6), 4, 0, plain)
        torch.manual_seed(100 + number)
        seen = looker.look(0, torch.rand(3, 1, 16, 16), torch.randint(0, 3, (3, 16, 16)))
        alone.append(torch.tensor(seen["lookahead/slopes"]))
    torch.testing.assert_close(torch.tensor(one["slopes"]), (alone[0] + alone[1]) / 2, rtol=1e-3, atol=1e-5)
    assert (alone[0] - alone[1]).abs().max() > 1e-3
