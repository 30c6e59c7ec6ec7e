"""What a mixture says and what is made of it: ranking, pruning, comparing, training again."""

import json
import math
from pathlib import Path

import pytest
from support.mixture_losses import example_mixture
from support.places import ROOT

from lomix_search.errors import LossError, MixtureError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.map_weights import MapWeight, concentration
from lomix_search.mixture.mixture import Mixture


@pytest.fixture
def mixture() -> Mixture:
    return example_mixture()


def test_schema_in_docs_is_current() -> None:
    published = json.loads((ROOT / "docs" / "mixture.schema.json").read_text())
    assert published == Mixture.model_json_schema()


def test_it_says_whether_classes_may_overlap(tmp_path: Path, mixture: Mixture) -> None:
    found = MixtureLoss("deep_supervision", 3, 2, multilabel=True).mixture()
    found.save(tmp_path / "mixture.json")
    read = Mixture.load(tmp_path / "mixture.json")
    assert read.multilabel is True and MixtureLoss("lomix", 3, 2).mixture().multilabel is False
    assert MixtureLoss.from_mixture(read).multilabel and not MixtureLoss.from_mixture(read, multilabel=False).multilabel
    with pytest.raises(MixtureError, match="channels: mixture regions that may overlap, network classes"):
        read.check(3, 2, multilabel=False)
    content = json.loads((tmp_path / "mixture.json").read_text())
    del content["multilabel"], content["sha256"]  # as earlier versions wrote it
    (tmp_path / "mixture.json").write_text(json.dumps(content))
    old = Mixture.load(tmp_path / "mixture.json")
    assert old.multilabel is None and not MixtureLoss.from_mixture(old).multilabel
    old.check(3, 2, multilabel=True)


def test_ranking_and_printing(mixture: Mixture) -> None:
    ranked = mixture.ranked()
    assert [m.weight for m in ranked] == sorted(mixture.weights.values(), reverse=True)
    assert str(mixture).startswith("0.28·concat(1,2,3) + 0.27·concat(2,3) + ")
    assert mixture.__rich__().row_count == 19


@pytest.mark.parametrize(("criterion", "kept"), [
    ({"top": 3}, {"P3", "concat(1,2,3)", "concat(2,3)"}),
    ({"top": 1}, {"P3"}),
    ({"top": 2, "keep_finest": False}, {"concat(1,2,3)", "concat(2,3)"}),
    ({"per_operator": 1}, {"P3", "add(1,2,3)", "mul(1,2,3)", "attention(1,2,3)", "concat(1,2,3)"}),
])  # fmt: skip
def test_pruning(mixture: Mixture, criterion: dict[str, int], kept: set[str]) -> None:
    pruned = mixture.prune(**criterion)
    assert set(pruned.weights) == kept
    assert all(pruned.weights[name] == mixture.weights[name] for name in kept)
    assert {m.id for m in pruned.space.maps(3)} == kept


def test_pruning_by_mass_keeps_the_fewest_that_hold_it(mixture: Mixture) -> None:
    pruned = mixture.prune(mass=0.5, keep_finest=False)
    total = sum(mixture.weights.values())
    assert sum(pruned.weights.values()) >= total / 2
    assert sum(pruned.weights.values()) - min(pruned.weights.values()) < total / 2
    assert set(mixture.prune(mass=1.0).weights) == set(mixture.weights)


def test_pruning_drops_the_parameters_of_dropped_maps(mixture: Mixture, tmp_path: Path) -> None:
    mixture.save(tmp_path / "whole.json")
    pruned = Mixture.load(tmp_path / "whole.json").prune(per_operator=1)
    assert not pruned.operators
    pruned.save(tmp_path / "mixture.json")
    assert Mixture.load(tmp_path / "mixture.json").weights == pruned.weights


def test_concentration() -> None:
    even = concentration([0.5] * 8)
    assert even.total == 4 and math.isclose(even.effective_maps, 8)
    assert math.isclose(concentration([1.0, 0.0, 0.0]).effective_maps, 1)
    assert concentration([0.0, 0.0]).effective_maps == 0


def test_compare_is_kendalls_tau(mixture: Mixture) -> None:
    assert mixture.compare(mixture) == pytest.approx(1)
    flipped = tuple(MapWeight(id=m.id, weight=1 - m.weight) for m in mixture.maps)
    assert mixture.compare(mixture.model_copy(update={"maps": flipped})) == pytest.approx(-1)


def test_check_names_what_differs(mixture: Mixture) -> None:
    mixture.check(3, 4, ["up0", "up1", "up2"])
    with pytest.raises(MixtureError) as caught:
        mixture.check(4, 9)
    assert str(caught.value) == (
        "this mixture was found on another network.\n"
        "  Seen: stages: mixture 3, network 4\n"
        "        classes: mixture 4, network 9\n"
        "  Try:  search anew on this network: lomix.search(net, loss, train, val)"
    )


def test_prune_errors(mixture: Mixture) -> None:
    with pytest.raises(MixtureError, match="exactly one of top, mass and per_operator"):
        mixture.prune()
    with pytest.raises(MixtureError, match=r"prune\(top=0\): at least one map must stay"):
        mixture.prune(top=0)
    with pytest.raises(MixtureError, match=r"prune\(mass=1\.5\): a part of the weight lies in \(0, 1\]"):
        mixture.prune(mass=1.5)


# -- nothing left ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["fixed", "softplus", "uniform", "anneal"])
def test_a_mixture_whose_weights_are_all_0_is_not_trained(mixture: Mixture, weighting: str) -> None:
    nothing = mixture.model_copy(update={"maps": tuple(MapWeight(id=m.id, weight=0.0) for m in mixture.maps)})
    with pytest.raises(LossError) as caught:
        MixtureLoss.from_mixture(nothing, weighting=weighting)
    assert str(caught.value).startswith("all 19 weights of the mixture are 0; nothing would be trained.")
    assert len(MixtureLoss(nothing.space, nothing.num_maps, nothing.num_classes).maps) == 19  # the hint
    with pytest.raises(MixtureError, match="prune would leave no map"):
        nothing.prune(mass=0.5, keep_finest=False)
    assert set(nothing.prune(mass=0.5).weights) == {"P3"}


def test_weights_that_float32_cannot_hold_are_not_taken_for_weights(mixture: Mixture) -> None:
    tiny = mixture.model_copy(update={"maps": tuple(MapWeight(id=m.id, weight=1e-60) for m in mixture.maps)})
    with pytest.raises(LossError, match="Fixed has only weights of 0"):
        MixtureLoss.from_mixture(tiny)
