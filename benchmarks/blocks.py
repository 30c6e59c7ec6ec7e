"""How fast blocks of volumes are read, beside a training step: ``python benchmarks/blocks.py RECIPE [KEY=VALUE …]``.

Prints items a second by number of workers, each over 60 items after the first 10, and the median of some steps of the
recipe's own network and loss. Reading holds training back where a batch takes longer than a step.
"""

import statistics
import sys
import time

import torch
from torch.utils.data import DataLoader

from lomix_search.data.sampler import Order
from lomix_search.data.seeding import Seeded
from lomix_search.data.uniform_dataset import UniformDataset, collate
from lomix_search.experiments.build import build_loss, build_net
from lomix_search.recipe.recipe import load_recipe

_ITEMS, _WARM, _STEPS = 60, 10, 5


def items_a_second(items: UniformDataset, batch_size: int, workers: int) -> float:
    """Read some batches as training does."""
    order = Order(len(items), batch_size, 0)
    batches = order.batches(0, (_ITEMS + _WARM) // batch_size)
    loader = DataLoader(Seeded(items, 0), batch_sampler=batches, collate_fn=collate, num_workers=workers)
    began, count = 0.0, 0
    for number, (images, _) in enumerate(loader):
        if number * batch_size >= _WARM:
            count += len(images)
        else:
            began = time.perf_counter()
    return count / (time.perf_counter() - began)


def main(arguments: list[str]) -> None:
    """Measure one recipe."""
    recipe = load_recipe(arguments[0], arguments[1:])
    splits, batch_size = recipe.build_data(), recipe.search.batch_size
    items = UniformDataset(splits.train, "training")
    net = build_net(recipe, splits).train()
    loss = build_loss(recipe, net, splits)
    images, labels = collate([Seeded(items, 0)[(n, n)] for n in range(batch_size)])
    seconds = []
    for _ in range(_STEPS):
        began = time.perf_counter()
        loss(net(images), labels).backward()
        seconds.append(time.perf_counter() - began)
    step = statistics.median(seconds)
    print(f"step      {step:.3f} s for {batch_size} items, {torch.get_num_threads()} threads")
    for workers in (0, 2):
        rate = items_a_second(items, batch_size, workers)
        print(
            f"workers {workers} {rate:.1f} items/s, {batch_size / rate:.3f} s a batch: "
            f"{batch_size / rate / step:.1%} of a step"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
