"""The sum of all stages as a prediction: what heads and features give by hand, in eval mode; no hook stays."""

import torch
from support.shapes import build

from lomix_search.instrumentation.outputs import reader_of
from lomix_search.instrumentation.summed_stages import SummedStages
from lomix_search.utils.interpolation import interpolate


def test_the_sum_is_that_of_all_logits_at_the_size_of_the_images() -> None:
    net, _ = build()
    images = torch.rand(2, 1, 16, 16)
    net.eval()
    with torch.no_grad():
        features, finest = net.stage_features(images), net.logits(images)
        parts = [net.heads[str(i)](one) for i, one in enumerate(features) if str(i) in net.heads]
        expected = sum(interpolate(part, (16, 16)) for part in parts) + finest
        summed = SummedStages(net).eval()
        torch.testing.assert_close(summed(images), expected)
        torch.testing.assert_close(reader_of(summed, 3)(images), expected)
        assert not torch.equal(summed(images), finest) and torch.equal(net(images), finest)  # no hook stays
    assert len(parts) == len(net.stages) - 1
