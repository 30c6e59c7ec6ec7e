"""The authors' module, run in float64 on small inputs, said these numbers; we must say the same to 1e-10."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lomix_search.loss import MixtureLoss
from lomix_search.loss.engines import ENGINES, choose_engine

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.npz"))
ENGINE_NAMES = sorted({"reference", "tiled", choose_engine("auto", "cpu")})
if os.environ.get("TRITON_INTERPRET") == "1":
    ENGINE_NAMES = ["triton"]


class Golden:
    """One file, in our words: operators by our names, scales from 1."""

    def __init__(self, path: Path, engine: str) -> None:
        self.file = {key: torch.from_numpy(value) for key, value in np.load(path).items() if value.dtype.kind != "U"}
        text = np.load(path)
        self.operators = text["operators"].tolist()
        self.subsets = text["subsets"].tolist()
        self.maps = self.file["maps"].clone().requires_grad_()
        space = "lomix" if "concat" in self.operators else "mutation"
        self.loss = MixtureLoss(space, len(self.maps), self.maps.shape[2], engine=engine).double()
        with torch.no_grad():
            self.loss.weighting.theta.copy_(self.thetas(""))
            for name, parameter in self.parameters().items():
                parameter.copy_(self.file[name])

    def thetas(self, prefix: str) -> Tensor:
        return torch.cat([self.file[f"{prefix}theta_{name}"] for name in ("original", *self.operators)])

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Our parameters by the file's names: ``concat_013_weight`` is ours of ``concat(1,2,4)``."""
        found = {}
        for key, module in self.loss.operators.items():
            shared = key.startswith("attention")
            tag = f"wf_{key[10:-1]}" if shared else "concat_" + "".join(str(int(s) - 1) for s in key[7:-1].split(","))
            found |= {f"{tag}_{name}": parameter for name, parameter in module.named_parameters()}
        return found


def close(found: Tensor, expected: Tensor) -> None:
    scale = expected.abs().max().clamp(min=1e-30)
    assert found.shape == expected.shape
    assert ((found - expected).abs() <= 1e-10 * expected.abs() + 1e-12 * scale).all(), (found, expected)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_agrees_with_the_authors(path: Path, engine: str) -> None:
    golden = Golden(path, engine)
    file, loss = golden.file, golden.loss
    assert len(loss.maps) == file["ce_per_map"].numel()

    step = loss(list(golden.maps), file["labels"])
    step.total.backward()

    originals = len(golden.maps)
    weighted = step.weights * step.per_map
    close(step.total.detach().reshape(1), file["loss_total"])
    close(weighted[:originals].sum().reshape(1), file["loss_original"])
    close(weighted[originals:].sum().reshape(1), file["loss_mutant"])
    close(step.per_map, 0.3 * file["ce_per_map"] + 0.7 * file["dice_per_map"])
    close(golden.maps.grad, file["grad_maps"])
    close(loss.weighting.theta.grad, golden.thetas("grad_"))
    parameters = golden.parameters()
    assert len(parameters) == sum(key.endswith(("weight", "bias")) for key in file) / 2
    for name, parameter in parameters.items():
        close(parameter.grad, file[f"grad_{name}"])


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_cross_entropy_and_dice_apart(path: Path, engine: str) -> None:
    golden = Golden(path, engine)
    loss = golden.loss
    given = (list(golden.maps), golden.file["labels"], loss.plan, dict(loss.operators.items()))
    ce, dice = ENGINES[engine](*given)
    close(ce.detach(), golden.file["ce_per_map"])
    close(dice.detach(), golden.file["dice_per_map"])


def test_subsets_of_the_files_are_in_our_order() -> None:
    for path in GOLDEN:
        golden = Golden(path, "reference")
        ours = ["".join(str(s - 1) for s in m.scales) for m in golden.loss.maps[len(golden.maps) :]]
        assert ours == golden.subsets * len(golden.operators), path


def test_the_files_are_there() -> None:
    assert {path.stem for path in GOLDEN} >= {"binary", "mutation_add_only", "synapse_like", "two_scales"}
