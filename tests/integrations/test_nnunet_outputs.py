"""How many outputs a network gives, asked without computing."""

import torch
from torch import Tensor, nn

from lomix_search.integrations.nnunet.outputs import number_of_outputs, output_stages


class Ladder(nn.Module):
    """Logits at several scales, fine to coarse."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.convolution, self.norm, self.number = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), number

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        finest = self.norm(self.convolution(x))
        return [finest[..., :: 2**i, :: 2**i] for i in range(self.number)] if self.number > 1 else finest


class Reads(Ladder):
    """Looks at values, which a tensor without any does not have."""

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        return super().forward(x if x.sum().item() > 0 else -x)


def test_outputs_are_counted_and_the_network_stays_as_it_was() -> None:
    net = Ladder(3).train()
    net.norm.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert number_of_outputs(net, 1, (2**20, 2**20)) == 3  # a patch that no memory would hold
    assert number_of_outputs(Ladder(1), 1, (8, 8)) == 1
    assert number_of_outputs(Reads(3), 1, (8, 8)) is None
    assert net.training and not net.norm.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_stages_are_told_coarse_to_fine() -> None:
    stages = output_stages(Ladder(2), [[1.0, 1.0], [1.0, 0.5]], 3)
    assert [(stage.name, stage.stride) for stage in stages] == [("outputs.1", (1.0, 2.0)), ("outputs.0", (1.0, 1.0))]
