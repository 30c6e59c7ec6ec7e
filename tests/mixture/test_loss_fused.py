"""How the fused engines stand in a training step: torch.compile, DDP, autocast, accumulation, missing tools, cache."""

import copy
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.forked import two_processes
from torch import Tensor, nn

from lomix_search.errors import LossError
from lomix_search.mixture.loss import MixtureLoss, fused
from lomix_search.mixture.loss import dispatch as engines
from lomix_search.mixture.loss.backends import kernel_cache
from lomix_search.mixture.loss.kernel_plan import kernel_plan
from lomix_search.mixture.loss.label_checks import LateCheck
from lomix_search.mixture.loss.plan import LossPlan, plan_from_text, plan_to_text
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Fixed

FAST = [name for name in ("native", "tiled") if name == "tiled" or not isinstance(kernel_cache.library(), str)]
each = pytest.mark.parametrize("engine", FAST)
each_compiled = pytest.mark.parametrize(  # compiling takes seconds, and goes one way up to the engine
    "engine", [FAST[0], *(pytest.param(name, marks=pytest.mark.slow) for name in FAST[1:])]
)


class Net(nn.Module):
    """Three convolutions that give three originals, the coarser ones at lower resolution."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(2, classes, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [head(nn.functional.avg_pool2d(x, 4 >> i)) for i, head in enumerate(self.heads)]


class Both(nn.Module):
    """Network and loss in one module, as DDP wants them."""

    def __init__(self, engine: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.loss = Net(), MixtureLoss("lomix", 3, 3, engine=engine)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.loss(self.net(x), labels)


def data(batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(batch, 2, 12, 8, generator=generator), torch.randint(3, (batch, 12, 8), generator=generator)


def grads(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


# -- torch.compile -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@each_compiled
def test_the_compiled_step_is_one_graph_and_gives_the_same(engine: str) -> None:
    model = Both(engine)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager")
    expected, found = model(*data()), compiled(*data())
    expected.backward()
    found.backward()
    torch.testing.assert_close(found, expected)
    assert len(grads(model)) == len(list(model.parameters()))
    torch.testing.assert_close(grads(compiled), grads(model))


@pytest.mark.slow
@pytest.mark.parametrize("engine", FAST[:1])  # what is compiled is around the engine, and the same for each
def test_the_step_compiled_by_inductor_gives_the_same(engine: str) -> None:
    model = Both(engine)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True)
    model(*data()).backward()
    compiled(*data()).backward()
    torch.testing.assert_close(grads(compiled), grads(model))


@pytest.mark.slow
@each_compiled
def test_a_compiled_step_refuses_labels_out_of_range_too(engine: str) -> None:
    x, labels = data()
    compiled = torch.compile(Both(engine), fullgraph=True, backend="aot_eager")
    compiled(x, labels)
    with pytest.raises(LossError, match=r"Labels hold 1 values outside the classes 0 … 2"):
        compiled(x, labels + 3 * (labels == 1))


@pytest.mark.slow
def test_options_of_the_loss_are_one_opaque_operator_too() -> None:
    """Rows of each image, thresholds behind them, pixel weights: with the shapes that torch.compile is told."""
    for options in ({"top_k": 0.3, "per_image": True}, {"boundary_weight": 5.0, "per_image": True}):
        loss = MixtureLoss("lomix", 2, 1, **options)
        maps = [torch.randn(2, 1, 4, 5, requires_grad=True) for _ in range(2)]
        labels = torch.randint(2, (2, 4, 5))
        compiled = torch.compile(lambda given: loss(given, labels), fullgraph=True, backend="aot_eager")  # noqa: B023
        found = torch.autograd.grad(compiled(maps), maps)
        torch.testing.assert_close(found, torch.autograd.grad(loss(maps, labels), maps))


@pytest.mark.slow
@each
def test_the_operators_keep_the_rules_of_torch_library(engine: str) -> None:
    plan = LossPlan(tuple(SearchSpace.load("lomix").maps(2)), 2, 3)
    work = kernel_plan(plan)
    maps = [torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    params = torch.randn(work.num_params, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(0, dtype=torch.float64)
    given = (maps, torch.randint(3, (2, 5)), none, params, plan_to_text(plan), engine)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
    torch.library.opcheck(fused.mixture_sums, given, test_utils=checks)


def test_a_plan_survives_its_text() -> None:
    for name, ignored in (("extended", None), ("lomix", -100), ("last_layer", 255)):
        plan = LossPlan(tuple(SearchSpace.load(name).maps(4)), 4, 9, ignored)
        assert plan_from_text(plan_to_text(plan)) == plan


# -- the rest of a training step ---------------------------------------------------------------------------------------


@each
def test_a_second_derivative_is_refused_in_words(engine: str) -> None:
    model = Both(engine)
    gradient = torch.autograd.grad(model(*data()), list(model.parameters()), create_graph=True)
    with pytest.raises(LossError) as caught:
        sum(g.square().sum() for g in gradient).backward()  # type: ignore[union-attr]
    assert str(caught.value) == (
        'The fused mixture loss has no second derivative.\n  Try:  MixtureLoss(…, engine="reference")'
    )


@pytest.mark.slow
def test_the_reference_has_a_second_derivative() -> None:
    loss = MixtureLoss("lomix", 2, 2, engine="reference").double()
    maps = [torch.randn(1, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradgradcheck(lambda *given: loss(given, torch.tensor([[0, 1]])), maps)


@each
def test_gradients_accumulate(engine: str) -> None:
    model = Both(engine)
    model(*data()).backward()
    once = [g.clone() for g in grads(model)]
    model(*data()).backward()
    torch.testing.assert_close(grads(model), [2 * g for g in once])


@each
def test_autocast_of_the_network_leaves_the_loss_in_float32(engine: str) -> None:
    model = Both(engine)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = model(*data())
    total.backward()
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, model(*data()), rtol=2e-2, atol=1e-3)
    assert all(g.isfinite().all() for g in grads(model))


@each
def test_maps_that_need_no_gradient_are_left_alone(engine: str) -> None:
    loss = MixtureLoss("lomix", 2, 3, engine=engine)
    maps = [torch.randn(1, 3, 4, requires_grad=i == 1) for i in range(2)]
    labels = torch.randint(3, (1, 4))
    loss(maps, labels).backward()
    assert maps[0].grad is None
    assert maps[1].grad is not None
    with torch.no_grad():
        assert not loss(maps, labels).requires_grad


@each
def test_skipped_maps_cost_nothing(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The back end is asked for the maps that count, and for no others."""
    asked: list[int] = []
    back_end = fused.BACK_ENDS[engine]
    real = back_end.sums
    monkeypatch.setattr(back_end, "sums", lambda *given: asked.append(len(given[3].plan.maps)) or real(*given))
    maps = tuple(SearchSpace.load("lomix").maps(3))
    loss = MixtureLoss("lomix", 3, 3, Fixed(maps, [1.0, 0, 1] + [0.0] * 15 + [2]), engine=engine)
    loss([torch.randn(1, 3, 4)] * 3, torch.randint(3, (1, 4)))
    assert asked == [3]


def _ddp(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.set_num_threads(1)
    x, labels = data(4)
    found = {}
    for engine in FAST:
        model = nn.parallel.DistributedDataParallel(Both(engine))
        model(x[2 * rank : 2 * rank + 2], labels[2 * rank : 2 * rank + 2]).backward()
        found[engine] = grads(model)
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_ddp_averages_the_gradients_of_its_processes(tmp_path: Path) -> None:
    two_processes(_ddp, str(tmp_path))
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    x, labels = data(4)
    for engine in FAST:
        halves = []
        for half in (slice(0, 2), slice(2, 4)):
            model = Both(engine)
            model(x[half], labels[half]).backward()
            halves.append(grads(model))
        expected = [(a + b) / 2 for a, b in zip(*halves, strict=True)]
        for of_rank in found:
            torch.testing.assert_close(of_rank[engine], expected)


# -- labels on a device ------------------------------------------------------------------------------------------------


def test_labels_on_a_device_are_checked_one_step_late() -> None:
    plan = LossPlan(tuple(SearchSpace.load("lomix").maps(2)), 2, 3, 255)
    check = LateCheck()
    check.look(torch.tensor([0, 1, 2, 255]), plan)
    check.look(torch.tensor([0, -1, 7, 255]), plan)
    again = copy.deepcopy(check)
    with pytest.raises(LossError) as caught:
        check.look(torch.tensor([0]), plan)
    assert str(caught.value) == (
        "2 labels of an earlier step were outside the classes 0 … 2.\n"
        "  Seen: values from -1 to 7\n"
        "  Try:  from lomix_search.mixture.loss.label_checks import check_labels\n"
        "        check_labels(labels.cpu(), [one.cpu() for one in maps], loss.plan)  # says what to do"
    )
    check.look(torch.tensor([0]), plan)
    again.look(torch.tensor([0]), plan)


# -- which engine ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Forget the loaded kernel, and look for a compiler and a cache elsewhere."""
    kernel_cache.library.cache_clear()
    monkeypatch.setenv("LOMIX_CACHE", str(tmp_path / "cache"))
    yield monkeypatch.setenv
    monkeypatch.undo()
    kernel_cache.library.cache_clear()


def test_without_a_compiler_plain_pytorch_runs(fresh: Callable[..., None], tmp_path: Path) -> None:
    fresh("PATH", str(tmp_path))
    fresh("CXX", "")
    assert engines.choose_engine("auto", "cpu") == "tiled"
    assert engines.engine_report() == (
        "tiled: plain PyTorch, because the C++ kernel is missing: "
        "no C++ compiler (c++, g++, clang++) on PATH, and no package ziglang"
    )
    assert Both("auto")(*data()).isfinite()
    with pytest.raises(LossError) as caught:
        Both("native")(*data())
    assert str(caught.value) == (
        'engine "native" cannot run on cpu: no C++ compiler (c++, g++, clang++) on PATH, and no package ziglang.\n'
        '  Try:  MixtureLoss(…, engine="auto")'
    )


def test_with_a_compiler_that_fails_plain_pytorch_runs(fresh: Callable[..., None], tmp_path: Path) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho no such header >&2\nexit 1\n")
    broken.chmod(0o755)
    fresh("CXX", str(broken))
    assert engines.engine_report().endswith(f"the C++ kernel is missing: {broken} failed: no such header")
    assert engines.choose_engine("auto", "cpu") == "tiled"
    assert not list((tmp_path / "cache").iterdir())


def test_it_can_be_switched_off(fresh: Callable[..., None]) -> None:
    fresh("LOMIX_NATIVE", "0")
    assert engines.choose_engine("auto", "cpu") == "tiled"
    assert engines.engine_report().endswith("switched off by LOMIX_NATIVE=0")


def test_an_unwritable_cache_is_no_reason_to_stop(
    fresh: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kernel_cache, "cache_folders", lambda: [tmp_path / "file" / "cache"])
    assert engines.choose_engine("auto", "cpu") in FAST
    assert Both("auto")(*data()).isfinite()


def test_other_devices_take_the_reference() -> None:
    assert engines.choose_engine("auto", "meta") == "reference"
    with pytest.raises(LossError, match='engine "native" cannot run on cuda: it is for the CPU'):
        engines.choose_engine("native", "cuda")
