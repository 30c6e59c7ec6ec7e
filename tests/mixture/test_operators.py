"""Every operator of the table does what its formula says, and ``check_operator`` tells good ones from bad."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from lomix_search.errors import SpaceError
from lomix_search.mixture.operators import OPERATORS, find_operator, operator
from lomix_search.mixture.testing import OperatorFault, check_operator

SHIPPED = ("add", "mul", "bounded_product", "sub", "avg", "max", "concat", "attention")
FAST = ("add", "bounded_product", "concat")


@pytest.fixture
def table() -> Iterator[dict[str, object]]:
    before = dict(OPERATORS)
    yield OPERATORS  # type: ignore[misc]
    OPERATORS.clear()
    OPERATORS.update(before)


def maps(arity: int, classes: int = 3, spatial: tuple[int, ...] = (4, 5)) -> list[Tensor]:
    return [torch.randn(2, classes, *spatial, dtype=torch.float64) for _ in range(arity)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("add", "concat", "bounded_product") else pytest.mark.slow)
        for name in SHIPPED
    ],
)
def test_shipped_operators_conform(name: str) -> None:
    check_operator(name)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("add", lambda a, b, c: a + b + c),
        ("mul", lambda a, b, c: a * b * c),
        ("bounded_product", lambda a, b, c: 2 * torch.atanh((a / 2).tanh() * (b / 2).tanh() * (c / 2).tanh())),
        ("sub", lambda a, b, c: a - b - c),
        ("avg", lambda a, b, c: (a + b + c) / 3),
        ("max", lambda a, b, c: torch.stack([a, b, c]).amax(0)),
    ],
)
def test_plain_operators_are_their_formula(name: str, formula: Callable[..., Tensor]) -> None:
    a, b, c = maps(3)
    fuse = find_operator(name).fuse
    assert fuse is not None
    torch.testing.assert_close(fuse(a, b, c), formula(a, b, c))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 40.0, 1e4])
def test_the_bounded_product_and_its_slopes_stay_bounded_where_products_explode(
    scale: float, dtype: torch.dtype
) -> None:
    given = [(scale * one).to(dtype).requires_grad_() for one in maps(4)]
    fuse = find_operator("bounded_product").fuse
    assert fuse is not None
    found = fuse(*given)
    smallest = torch.stack(given).abs().amin(0)
    rounding = 8 * torch.finfo(dtype).eps * scale * 4
    assert found.dtype == dtype and bool((found.abs() <= smallest + rounding).all())
    certain = found.abs() > rounding
    assert torch.equal(found.sign()[certain], torch.stack(given).sign().prod(0)[certain])
    for slope in torch.autograd.grad(found.sum(), given):
        assert bool((slope.abs() <= 1 + 16 * torch.finfo(dtype).eps).all())


@pytest.mark.parametrize("spatial", [(5,), (3, 4), (2, 3, 4)])
def test_concat_is_a_pointwise_convolution_of_the_concatenation(spatial: tuple[int, ...]) -> None:
    given = maps(2, spatial=spatial)
    fuse = OPERATORS["concat"].module(3, 2).double()  # type: ignore[misc]
    stacked = torch.cat(given, 1)
    expected = torch.einsum("oi,bi...->bo...", fuse.weight, stacked) + fuse.bias.view(-1, *[1] * len(spatial))
    torch.testing.assert_close(fuse(*given), expected)


def test_concat_starts_as_a_convolution_does() -> None:
    torch.manual_seed(3)
    ours = OPERATORS["concat"].module(4, 3)  # type: ignore[misc]
    torch.manual_seed(3)
    theirs = nn.Conv2d(12, 4, 1)
    assert torch.equal(ours.weight, theirs.weight[..., 0, 0])
    assert torch.equal(ours.bias, theirs.bias)


@pytest.mark.parametrize("spatial", [(5,), (3, 4), (2, 3, 4)])
def test_attention_gates_every_pixel_with_weights_that_add_up_to_one(spatial: tuple[int, ...]) -> None:
    given = maps(3, spatial=spatial)
    fuse = OPERATORS["attention"].module(3, 3).double()  # type: ignore[misc]
    scores = [torch.einsum("c,bc...->b...", w, m) + b for w, b, m in zip(fuse.weight, fuse.bias, given, strict=True)]
    gates = torch.softmax(torch.stack(scores), 0)
    expected = sum(g[:, None] * m for g, m in zip(gates, given, strict=True))
    torch.testing.assert_close(fuse(*given), expected)
    same = [given[0]] * 3
    torch.testing.assert_close(fuse(*same), given[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_do_not_overflow_in_half_precision(dtype: torch.dtype) -> None:
    fused = OPERATORS["mul"].fuse(*[torch.full((1, 1, 2), 40.0, dtype=dtype)] * 4)  # type: ignore[misc]
    assert fused.dtype == torch.float32
    assert (fused == 40.0**4).all()


def test_names(table: dict[str, object]) -> None:
    with pytest.raises(SpaceError, match=r'operator "addd": unknown. Nearest: "add". Known: add, attention, avg,'):
        find_operator("addd")
    with pytest.raises(SpaceError, match=r'operator\("add"\) exists already.\n  Try:  @operator\("my_add"\)'):
        operator("add")
    with pytest.raises(SpaceError, match='must be an identifier and not "original"'):
        operator("original")
    with pytest.raises(SpaceError, match="must be an identifier"):
        operator("a.b")


# -- check_operator ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_good_operator_of_the_user_passes(table: dict[str, object]) -> None:
    @operator("geometric", symmetric=True)
    def geometric(*given: Tensor) -> Tensor:
        return torch.stack(given).mean(0).tanh()

    @operator("scaled")
    class Scaled(nn.Module):
        def __init__(self, classes: int, arity: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.rand(arity, classes))

        def forward(self, *given: Tensor) -> Tensor:
            return torch.einsum("ac,abc...->bc...", self.scale, torch.stack(given))

    check_operator("geometric")
    check_operator("scaled")


class _Forgets(nn.Module):
    """Its state is no parameter, so a checkpoint loses it."""

    def __init__(self, classes: int, arity: int) -> None:
        super().__init__()
        self.shift = torch.rand(1, dtype=torch.float64)

    def forward(self, *given: Tensor) -> Tensor:
        return torch.stack(given).sum(0) + self.shift


class _Unused(nn.Module):
    def __init__(self, classes: int, arity: int) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(1))

    def forward(self, *given: Tensor) -> Tensor:
        return torch.stack(given).sum(0)


class _WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: object, g: Tensor) -> Tensor:
        return g * 3


BAD = [
    (lambda a, *b: a.detach() + sum(b).detach(), True, "lets no gradient through"),
    (lambda a, *b: a * 2, False, "lets no gradient through to map 2"),
    (lambda a, *b: (a + sum(b)).mean(1, keepdim=True).mean(0), False, "returns shape"),
    (lambda a, *b: (a + sum(b)).float(), False, "returns torch.float32 for torch.float64 maps"),
    (lambda a, *b: 3, False, "returns int, not a tensor"),
    (lambda a, *b: a - sum(b), True, "is declared symmetric but the order matters"),
    (lambda a, *b: a + sum(b) + torch.rand(()).double(), False, "gives another mutant when called again"),
    (lambda a, *b: (a + sum(b)) / 0, False, "returns values that are not finite"),
    (lambda a, *b: a @ b[0], False, "fails with RuntimeError"),
    (lambda a, *b: _WrongGradient.apply(a + sum(b)), False, "has a wrong gradient"),
    (_Forgets, False, "differs after its state_dict was saved and loaded"),
    (_Unused, False, "lets no gradient through to idle"),
]


def _in_place(a: Tensor, *b: Tensor) -> Tensor:
    a.data.add_(1)
    return a + sum(b)


def test_symmetric_means_every_order_of_the_maps(table: dict[str, object]) -> None:
    """a + 2b + c is the same from behind."""
    operator("mine", symmetric=True)(lambda *maps: sum(maps) + (maps[1] if len(maps) == 3 else 0))
    with pytest.raises(OperatorFault, match="is declared symmetric but the order matters"):
        check_operator("mine", classes=[3])


def test_a_check_of_nothing_is_no_check(table: dict[str, object]) -> None:
    operator("mine")(lambda *maps: None)
    for nothing in ({"classes": []}, {"arities": []}, {"arities": iter(())}):
        with pytest.raises(OperatorFault, match=r'check_operator\("mine"\) was given nothing to try'):
            check_operator("mine", **nothing)
    with pytest.raises(OperatorFault, match="returns NoneType"):  # an iterator that is used up after the first arity
        check_operator("mine", classes=iter([3]), arities=iter([2, 3]))


@pytest.mark.parametrize(("target", "symmetric", "fault"), [*BAD, (_in_place, False, "changes its maps in place")])
def test_a_bad_operator_is_told_what_is_wrong(
    target: Callable[..., Tensor], symmetric: bool, fault: str, table: dict[str, object]
) -> None:
    operator("mine", symmetric=symmetric)(target)
    with pytest.raises(OperatorFault) as caught:
        check_operator("mine", classes=[3])
    assert str(caught.value).startswith(f'operator "mine" {fault}')
    assert "\n  Seen: 2 maps of shape (2, 3, 5)" in str(caught.value)
