"""``doctor`` measures what training will cost, before it begins."""

import copy

import torch
from support.zoo import SmallUNet

from lomix_search.training.cost import doctor


def test_doctor_measures_and_leaves_no_mark():
    model, example = SmallUNet(), torch.rand(2, 1, 32, 32)
    before = copy.deepcopy(model.state_dict())
    cost = doctor(model, example)
    assert cost.head_parameters == 8 * 3 + 3 and cost.maps == 6
    assert cost.loss_parameters == 6 + (3 * 6 + 3) + (2 * 3 + 2)  # weights, one concat, one attention
    assert cost.seconds > 0 and cost.bare_seconds > 0 and cost.engine in str(cost)
    assert cost.saved_bytes > cost.bare_saved_bytes > 0
    assert "head parameters   27, in training only" in str(cost)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.values(), strict=True))
    assert not any(m._forward_hooks for m in model.modules())


def test_doctor_measures_regions_that_overlap():
    cost = doctor(SmallUNet(), torch.rand(2, 1, 32, 32), repeats=1, multilabel=True)
    assert cost.maps == 6 and cost.seconds > 0 and cost.saved_bytes > cost.bare_saved_bytes > 0
