"""The authors' module, run in float64 on small inputs, said these numbers; we must say the same to 1e-10."""

import os
from pathlib import Path

import pytest
from support.golden import GOLDEN, Golden, close
from support.mixture_losses import taken

from lomix_search.mixture.loss.dispatch import ENGINES, choose_engine

ENGINE_NAMES = sorted({"reference", "tiled", choose_engine("auto", "cpu")})
if os.environ.get("TRITON_INTERPRET") == "1":
    ENGINE_NAMES = ["triton"]


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_agrees_with_the_authors(path: Path, engine: str) -> None:
    golden = Golden(path, engine)
    file, loss = golden.file, golden.loss
    assert len(loss.maps) == file["ce_per_map"].numel()

    step = taken(loss, list(golden.maps), file["labels"])
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
