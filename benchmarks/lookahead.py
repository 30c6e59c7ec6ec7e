"""What a look at held-out data costs.      python benchmarks/lookahead.py [--size 128] [--rounds 9]

Plain training steps and looks take turns, so that a busy machine slows both; medians are printed.
"""

import argparse
import statistics
import time

import torch
from monai.networks.nets import BasicUNet

import lomix_search as lomix
from lomix_search.data.dataset import Slices
from lomix_search.mixture.loss.dispatch import engine_report
from lomix_search.mixture.weighting import Lookahead
from lomix_search.training.held_out import Looker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    print(f"{engine_report()}; BasicUNet [16, 16, 32, 64, 128, 16], {given.size}², batch {given.batch}, 48 maps")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for method in ("forward", "difference"):
        for normalize in ("spread", "norm"):
            report(given, method, normalize, device)


def report(given: argparse.Namespace, method: str, normalize: str, device: torch.device) -> None:
    torch.manual_seed(0)
    shape = (given.size, given.size)
    net = lomix.instrument(
        BasicUNet(2, 1, 6, [16, 16, 32, 64, 128, 16]).to(device), torch.zeros(1, 1, *shape).to(device)
    )
    space = lomix.SearchSpace.load("lomix")
    weighting = Lookahead(tuple(space.maps(4)), method=method, normalize=normalize)
    loss = lomix.MixtureLoss(space, 4, 6, weighting=weighting).to(device)
    optimizer = torch.optim.AdamW([*net.parameters(), *loss.parameters()], lr=1e-3)
    images, labels = torch.rand(given.batch, 1, *shape), torch.randint(0, 6, (given.batch, *shape))
    held = Slices(images.numpy(), labels.numpy(), ["a"] * given.batch, num_classes=6)
    looker = Looker(net, loss, held, given.batch, 0, lambda: torch.autocast(device.type, enabled=False))
    images, labels = images.to(device), labels.to(device)
    net.train()

    def step() -> None:
        optimizer.zero_grad()
        loss(net(images), labels).backward()
        optimizer.step()

    def timed(call: object) -> float:
        began = time.perf_counter()
        call()  # type: ignore[operator]
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    steps, looks = [], []
    for i in range(given.rounds + 2):
        steps.append(timed(step))
        looks.append(timed(lambda i=i: looker.look(i, images, labels)))
    one, look = statistics.median(steps[2:]), statistics.median(looks[2:])
    share = ", ".join(f"{look / one / every:.0%} every {every}" for every in (6, 12, 24))
    print(f"{method:10} {normalize:6}  step {one * 1e3:5.0f} ms, look {look * 1e3:5.0f} ms ({look / one:.2f}): {share}")


if __name__ == "__main__":
    main()
