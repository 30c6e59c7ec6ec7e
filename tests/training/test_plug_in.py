"""What every framework's plug-in checks, logs and writes."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lomix_search.errors import LossError, RunError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.mixture import Mixture
from lomix_search.training.plug_in import (
    check_for_plug_in,
    check_trained,
    found_mixture,
    untested_version,
    weight_line,
    weight_numbers,
)
from lomix_search.utils.shipped import VERSION


def loss_of(weighting: str = "softplus", space: str = "lomix") -> MixtureLoss:
    return MixtureLoss(space, 3, 2, weighting=weighting)


def test_versions_inside_and_outside_of_what_was_tested() -> None:
    version = torch.__version__.split("+")[0]
    major = version.split(".")[0]
    assert untested_version("torch", major) == untested_version("no-such-package", "1.0") == ""
    assert untested_version("torch", f"{major}0").startswith(f"LoMix was tested with torch {major}0; this is {version}")
    assert untested_version("torch", "0.4").endswith("If anything fails: pip install 'torch==0.4.*'")


def test_weights_as_numbers_and_in_a_line() -> None:
    loss = loss_of("uniform")
    numbers = weight_numbers(loss)
    assert len(numbers) == 2 + 19 and numbers["lomix/effective_maps"] == pytest.approx(19)
    assert numbers["lomix/P3"] == numbers["lomix/add_1_2_3"] == numbers["lomix/concat_1_3"] == 1
    assert set(weight_numbers(loss, every=False)) == {"lomix/effective_maps", "lomix/weight_sum"}
    assert weight_line(loss) == (
        "LoMix: 1·P1 + 1·P2 + 1·P3 + 1·add(1,2) + 1·add(1,3) + … (19 maps, which count as 19.0; sum 19)"
    )
    three = loss_of("uniform", "deep_supervision")
    assert weight_line(three) == "LoMix: 1·P1 + 1·P2 + 1·P3 (3 maps, which count as 3.0; sum 3)"


def test_an_optimizer_must_hold_what_is_to_be_trained() -> None:
    loss, heads = loss_of(), nn.Conv2d(2, 2, 1)
    hint = "add the groups"
    check_trained(
        torch.optim.SGD([{"params": heads.parameters()}, *loss.parameter_groups()], lr=0.1), [loss, heads], hint
    )
    with pytest.raises(RunError) as caught:
        check_trained(
            torch.optim.SGD(heads.parameters(), lr=0.1), [loss_of("softplus", "deep_supervision"), heads], hint
        )
    assert str(caught.value) == (
        "SGD lacks 1 of LoMix's parameters; they would stay as they are.\n"
        "  Seen: weighting.theta\n"
        "  Try:  add the groups"
    )


def test_a_weighting_that_needs_held_out_data_is_refused() -> None:
    check_for_plug_in(loss_of("anneal"), "MONAI")
    with pytest.raises(LossError) as caught:
        check_for_plug_in(loss_of("lookahead"), "MONAI")
    assert str(caught.value) == (
        'weighting "lookahead" looks at held-out data, which the loop of MONAI keeps none of.\n'
        '  Try:  weighting="anneal" or "uncertainty" here, or lomix.search(net, loss, train, val)'
    )


def test_the_mixture_notes_where_it_comes_from(tmp_path: Path) -> None:
    loss = loss_of()
    found_mixture(loss, "torch", network="UNet", steps=7).save(tmp_path / "mixture.json")
    noted = Mixture.load(tmp_path / "mixture.json").provenance
    assert (noted.network, noted.steps, noted.versions["lomix_search"]) == ("UNet", 7, VERSION)
    checkout = found_mixture(loss, "no-such-package").provenance.versions  # imported without being installed
    assert checkout.keys() == {"lomix_search", "torch", "python"}
