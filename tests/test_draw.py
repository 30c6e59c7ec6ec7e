import copy
from xml.etree import ElementTree

import torch
from zoo import SmallUNet, monai_basic_unet

from lomix_search.doctor import doctor
from lomix_search.draw import draw
from lomix_search.stages import find_stages
from lomix_search.trace import trace


def test_the_picture_is_valid_and_marks_every_stage_once():
    model, example, names = monai_basic_unet(2)
    text = draw(trace(model, example), find_stages(model, example)[0])
    root = ElementTree.fromstring(text)
    shown = [node.text for node in root.iter("{http://www.w3.org/2000/svg}title")]
    for i, name in enumerate(names, 1):
        assert sum(f"stage {i} " in label for label in shown) == 1
        assert any(name in label and f"stage {i} " in label for label in shown)


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
