"""Which maps pull where held-out data pull: exact cosines between each map's gradient and that of held-out data.

    lomix run benchmarks/evidence/basicunet.toml --folder runs/uniform weighting.name=uniform
    python benchmarks/alignment.py runs/uniform [--batches 3]

At every checkpoint of a finished run: gradients of each map on training batches, of the finest map on all validation
slices, by all parameters of the network without the heads (those are thrown away in the end), mean over the batches.
The weighting ``lookahead`` estimates these cosines by derivatives along a direction; here each map is differentiated
alone.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from lomix_search.data.sampler import Order
from lomix_search.data.seeding import Seeded
from lomix_search.experiments.build import build_loss, build_net
from lomix_search.mixture.loss.resize import resize_maps
from lomix_search.recipe.recipe import load_recipe
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.held_out import finest_loss
from lomix_search.utils.random import seed_everything


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--batches", type=int, default=3)
    given = parser.parse_args()
    recipe = load_recipe(given.run / "recipe.toml")
    seed_everything(recipe.search.seed)
    splits = recipe.build_data()
    net = build_net(recipe, splits)
    loss = build_loss(recipe, net, splits)
    order = Order(len(splits.train), recipe.search.batch_size, recipe.search.seed)
    items = Seeded(splits.train, recipe.search.seed)
    batches = [[items[key] for key in order.batch(i)] for i in range(given.batches)]
    held = [splits.val[i] for i in range(len(splits.val))]
    for path in sorted((given.run / "checkpoints").glob("step_*.pt")):
        state = read_tensors(path)
        net.load_state_dict(state["net"])
        loss.load_state_dict(state["loss"])
        found = [cosines(net, loss, batch, held) for batch in batches]
        show(path.stem, {m.id: statistics.mean(c[i] for c in found) for i, m in enumerate(loss.maps)})


def cosines(net: nn.Module, loss: nn.Module, batch: Sequence, held: Sequence) -> list[float]:
    """Return the cosine of each map's gradient on a batch with the finest map's on held-out items."""
    net.train()
    parameters = [p for name, p in net.named_parameters() if name.startswith("model.")]
    images, labels = default_collate(list(held))
    v = gradient(finest_loss(loss)(net(images), labels), parameters)
    images, labels = default_collate(list(batch))
    losses = loss._losses(resize_maps(net(images), labels.shape[1:]), labels)
    return [float(torch.cosine_similarity(gradient(one, parameters), v, dim=0)) for one in losses]


def gradient(value: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    parts = torch.autograd.grad(value, parameters, materialize_grads=True, retain_graph=True)
    return torch.cat([part.flatten() for part in parts])


def show(title: str, found: dict[str, float]) -> None:
    ranked = sorted(found.items(), key=lambda pair: -pair[1])
    print(f"\n{title}")
    print("  highest  ", ", ".join(f"{name} {value:.2f}" for name, value in ranked[:6]))
    print("  lowest   ", ", ".join(f"{name} {value:.2f}" for name, value in ranked[-6:]))
    groups: dict[str, list[float]] = {}
    for name, value in found.items():
        groups.setdefault(name if "(" not in name else name.partition("(")[0], []).append(value)
    for name, values in groups.items():
        low, high = min(values), max(values)
        print(
            f"  {name:10} {statistics.mean(values):5.2f}" + (f" ({low:.2f} to {high:.2f})" if len(values) > 1 else "")
        )


if __name__ == "__main__":
    main()
