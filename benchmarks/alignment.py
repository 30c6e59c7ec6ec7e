"""Which maps pull where held-out data pull, over a training: cosines of each map's gradient with the held-out one.

    lomix prepare nuclei RAW data/nuclei --size 96
    python benchmarks/alignment.py measure nuclei data.size=96 search.steps=300 --strategies uniform,anneal \
        --seeds 2 --folder runs/alignment/nuclei
    python benchmarks/alignment.py table runs/alignment/nuclei
    python benchmarks/alignment.py draw runs/alignment/* --strategy anneal --picture alignment.png

Trains a recipe by each strategy and seed, and looks before the first step and ``--looks`` times on the way: at the
gradients of every map on training batches, each differentiated alone, and of the finest map, which inference uses, on
validation items (of volumes, the middle). Both are by all parameters of the network but the heads, which are thrown
away in the end. The looks change nothing of the training. ``measure`` goes on where it was stopped, with the same
result.

``look`` trains nothing: it looks at the first network and at the checkpoints of finished runs, such as those that
``lomix compare`` leaves. ``collect`` computes nothing: it takes the looks of finished runs of the weighting
``lookahead`` (with rate=0 weights stay equal) out of their logs, averaged by tenths of the training. Their cosines are
estimates: exact slopes over norms that random directions tell.

``looks.csv`` has one row for each look, training batch and map, and for three sums of maps: ``equal`` (all of the
space), ``originals`` and ``weighted`` (what the strategy steps along). ``cosine`` is over all parameters,
``cosine_touched`` over those that reach the map: a coarse map does not touch the finer part of the decoder.
"""

import argparse
import copy
import csv
import io
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.data.dataset import Splits
from lomix_search.data.sampler import Order
from lomix_search.data.seeding import Seeded
from lomix_search.data.subsets import label_fraction
from lomix_search.data.uniform_dataset import collate
from lomix_search.experiments.build import build_loss, build_net
from lomix_search.experiments.compare.strategies import Strategy, read_strategies
from lomix_search.experiments.figures import new_figure, save_figure
from lomix_search.experiments.run import run_recipe
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.maps import parse_id
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.weighting import Fixed
from lomix_search.recipe.recipe import Recipe, load_recipe
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.held_out import finest_loss
from lomix_search.training.trackers import read_lines
from lomix_search.utils.files import write_text
from lomix_search.utils.random import same_random_state, seed_everything

KEYS = ("data", "strategy", "seed", "step", "progress", "batch", "map", "loss", "weight", "norm", "cosine",
        "cosine_touched")  # fmt: skip
SUMS = ("equal", "originals", "weighted")
Row = Mapping[str, str]
Found = Mapping[str, Mapping[float, list[float]]]
"""Values by group and part of training, one a run and batch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("measure", help="train, look, write looks.csv")
    one.add_argument("recipe", help="a recipe")
    one.add_argument("changes", nargs="*", help="key=value, as of lomix run")
    one.add_argument("--strategies", default="uniform", help="as of lomix compare")
    one.add_argument("--seeds", type=int, default=2)
    one.add_argument("--looks", type=int, default=5, help="after the one before the first step")
    one.add_argument("--batches", type=int, default=2, help="training batches a look")
    one.add_argument("--held", type=int, default=16, help="validation items, at most")
    one.add_argument("--folder", type=Path, default=Path("runs/alignment"))
    one.set_defaults(call=measure)
    ran = commands.add_parser("look", help="write looks.csv of the checkpoints that finished runs have left")
    ran.add_argument("runs", type=Path, nargs="+", help="run folders, or folders of them such as lomix compare leaves")
    ran.add_argument("--batches", type=int, default=2, help="training batches a look")
    ran.add_argument("--held", type=int, default=16, help="validation items, at most")
    ran.add_argument("--folder", type=Path, required=True)
    ran.set_defaults(call=look_again)
    logs = commands.add_parser("collect", help="write looks.csv of what runs of lookahead have logged")
    logs.add_argument("runs", type=Path, nargs="+", help="run folders, or folders of them such as lomix compare leaves")
    logs.add_argument("--folder", type=Path, required=True)
    logs.set_defaults(call=collect)
    other = commands.add_parser("table", help="print what looks.csv says")
    picture = commands.add_parser("draw", help="draw it over the training")
    picture.add_argument("--picture", type=Path, required=True)
    picture.add_argument("--strategy", default="uniform")
    for command, call in ((other, table), (picture, draw)):
        command.add_argument("folders", type=Path, nargs="+", help="that measure wrote")
        command.add_argument("--touched", action="store_true", help="cosines over the parameters that reach a map")
        command.set_defaults(call=call)
    given = parser.parse_args()
    given.call(given)


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> None:
    recipe = load_recipe(given.recipe, given.changes)
    every = max(1, recipe.search.steps // given.looks)
    regular = {"validate_every": every, "checkpoint_every": every}
    recipe = recipe.model_copy(update={"search": recipe.search.model_copy(update=regular)})
    strategies = read_strategies(given.strategies)
    for seed in range(1, given.seeds + 1):
        for strategy in strategies:
            follow(recipe, strategy, seed, given)
            write_together(given.folder)
            print(f"{given.folder.name}: {strategy.label}, seed {seed}", flush=True)


def follow(recipe: Recipe, strategy: Strategy, seed: int, given: argparse.Namespace) -> None:
    """Train once, looking on the way."""
    folder = given.folder / strategy.slug / f"seed_{seed}"
    chosen = strategy.apply(recipe, seed, recipe.search.label_fraction)
    names = {"data": given.folder.name, "strategy": strategy.label, "seed": seed}
    watch = Watch(folder / "looks", names, chosen, given.batches, given.held)
    done = folder / "mixture.json"
    if not done.is_file():
        run_recipe(
            chosen, folder, resume=True, score_test=False, on_start=watch.start, on_validate=lambda step, _: watch(step)
        )


def look_again(given: argparse.Namespace) -> None:
    """Look at the first and at the kept networks of finished runs."""
    for run in sorted({path.parent for one in given.runs for path in one.rglob("mixture.json")}):
        recipe = load_recipe(run / "recipe.toml")
        space = "" if recipe.space.name == "lomix" else f"{recipe.space.name}, "
        names = {"data": given.folder.name, "strategy": space + recipe.weighting.name, "seed": recipe.search.seed}
        place = given.folder / f"{recipe.space.name}-{recipe.weighting.name}" / f"seed_{recipe.search.seed}" / "looks"
        watch = Watch(place, names, recipe, given.batches, given.held)
        seed_everything(recipe.search.seed)
        splits = recipe.build_data()
        net = build_net(recipe, splits)
        loss = build_loss(recipe, net, splits)
        watch.start(net, loss, splits)
        for path in sorted((run / "checkpoints").glob("step_*.pt")):
            state = read_tensors(path)
            net.load_state_dict(state["net"])
            loss.load_state_dict(state["loss"])
            watch(int(state["step"]))
        write_together(given.folder)
        print(f"{given.folder.name}: {names['strategy']}, seed {names['seed']}", flush=True)


def collect(given: argparse.Namespace) -> None:
    found = sorted({log.parent for run in given.runs for log in run.rglob("metrics.jsonl")})
    rows = [row for run in found for row in logged(run, given.folder.name)]
    if not rows:
        raise SystemExit("no finished run of lookahead is there, or none with normalize = norm.")
    write(given.folder / "looks.csv", rows)


def logged(run: Path, data: str) -> Iterator[dict[str, object]]:
    """Yield one row for each tenth of a training and each map."""
    lines = [line for line in read_lines(run / "metrics.jsonl") if "lookahead/scores" in line]
    recipe = load_recipe(run / "recipe.toml")
    if (
        not lines
        or not (run / "mixture.json").is_file()
        or recipe.weighting.settings.get("normalize", "norm") != "norm"
    ):
        return
    names = {"data": data, "strategy": "lookahead", "seed": recipe.search.seed, "batch": 0}
    tenths: dict[int, list[Mapping[str, Any]]] = {}
    for line in lines:
        tenths.setdefault(10 * (line["step"] - 1) // recipe.search.steps, []).append(line)
    for tenth, of in tenths.items():
        where = {"step": of[0]["step"] - 1, "progress": round(tenth / 10 + 0.05, 2)}
        for i, name in enumerate(Mixture.load(run / "mixture.json").weights):
            score, weight = (
                statistics.fmean(line[key][i] for line in of) for key in ("lookahead/scores", "mixture/weights")
            )
            yield {**names, **where, "map": name, "weight": f"{weight:.5f}", "cosine": f"{score:.5f}"}


class Watch:
    """Looks at network and loss as they are, and writes one file a look."""

    def __init__(self, folder: Path, names: Mapping[str, object], recipe: Recipe, batches: int, held: int) -> None:
        self.folder, self.names, self.recipe, self.number, self.most = folder, names, recipe, batches, held

    def start(self, net: nn.Module, loss: MixtureLoss, splits: Splits) -> None:
        plan = self.recipe.search
        train = label_fraction(splits.train, plan.label_fraction, plan.seed)
        order, items = Order(len(train), plan.batch_size, plan.seed), Seeded(train, plan.seed)  # type: ignore[arg-type]
        self.net, self.loss = net, loss
        self.batches = [collate([items[key] for key in order.batch(i)]) for i in range(self.number)]
        size = self.batches[0][0].shape[2:]
        held = [tuple(middle(t, size) for t in splits.val[i]) for i in range(min(self.most, len(splits.val)))]
        self.held = [collate(held[i : i + plan.batch_size]) for i in range(0, len(held), plan.batch_size)]
        self(0)

    def __call__(self, step: int) -> None:
        path = self.folder / f"step_{step:08d}.csv"
        if path.is_file():  # of a run that was stopped between here and its next checkpoint
            return
        with same_random_state():
            net, loss = copy.deepcopy(self.net).train(), copy.deepcopy(self.loss)  # buffers of a copy may move
            progress = step / self.recipe.search.steps
            loss.weighting.advance(progress)
            v = held_out(net, loss, self.held)
            weights = loss.weighting.weights().detach()
            rows = [
                {"batch": i, **row} for i, one in enumerate(self.batches) for row in looked(net, loss, one, v, weights)
            ]
        write(path, [{**self.names, "step": step, "progress": round(progress, 4), **row} for row in rows])


def middle(one: Tensor, size: Sequence[int]) -> Tensor:
    """Cut the middle out of a volume, or put zeros around it, so that it is of the size of training items."""
    for axis, (now, wanted) in enumerate(zip(one.shape[-len(size) :], size, strict=True), one.ndim - len(size)):
        if now >= wanted:
            one = one.narrow(axis, (now - wanted) // 2, wanted)
        else:
            before = (wanted - now) // 2
            widths = [0, 0] * (one.ndim - 1 - axis) + [before, wanted - now - before]
            one = torch.nn.functional.pad(one, widths)
    return one


def held_out(net: nn.Module, loss: MixtureLoss, batches: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the gradient of the finest map's loss on held-out items, by all parameters of the user's network."""
    finest = finest_loss(loss)
    return torch.stack([gradient(net, finest(net(images), labels)) for images, labels in batches]).mean(0)


def looked(
    net: nn.Module, loss: MixtureLoss, batch: tuple[Tensor, Tensor], v: Tensor, weights: Tensor
) -> Iterator[dict[str, object]]:
    """Yield one row for each map and each sum of maps; the weighting of the loss is lost."""
    images, labels = batch
    logits = net(images)
    sums = {name: torch.zeros_like(v) for name in SUMS}
    for i, one_map in enumerate(loss.maps):
        loss.weighting = Fixed(loss.maps, [float(i == k) for k in range(len(loss.maps))])  # this one alone
        value = loss(logits, labels)
        one = gradient(net, value)
        sums["equal"] += one
        sums["weighted"] += weights[i] * one
        if one_map.operator == "original":
            sums["originals"] += one
        known = {"loss": f"{value.item():.5f}", "weight": f"{weights[i].item():.5f}"}
        yield {"map": one_map.id, **known, **against(one, v)}
    for name, one in sums.items():
        yield {"map": name, "loss": "", "weight": "", **against(one, v)}


def gradient(net: nn.Module, value: Tensor) -> Tensor:
    parameters = [p for name, p in net.named_parameters() if name.startswith("model.") and p.requires_grad]
    parts = torch.autograd.grad(value, parameters, materialize_grads=True, retain_graph=True)
    return torch.cat([part.flatten() for part in parts])


def against(one: Tensor, v: Tensor) -> dict[str, str]:
    touched = one != 0
    cosines = {"cosine": (one, v), "cosine_touched": (one[touched], v[touched])}
    found = {key: f"{float(torch.cosine_similarity(*pair, dim=0)):.5f}" for key, pair in cosines.items()}
    return {"norm": f"{float(one.norm()):.5g}", **found}


def write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as one whole file."""
    held = io.StringIO()
    writer = csv.DictWriter(held, KEYS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, held.getvalue())


def write_together(folder: Path) -> None:
    """Write ``looks.csv`` of all looks that there are."""
    write(folder / "looks.csv", [row for path in sorted(folder.glob("*/*/looks/*.csv")) for row in read(path)])


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# -- telling -----------------------------------------------------------------------------------------------------------


def kind_of(row: Row) -> str:
    """Name the operator; the finest original stands alone, as it is what is held out."""
    operator, scales = named(row["map"])
    return operator if operator != "original" else f"P{scales[0]}"


def coarsest_of(row: Row) -> str:
    return f"P{named(row['map'])[1][0]}"


def arity_of(row: Row) -> str:
    return f"{len(named(row['map'])[1])} stages"


def named(name: str) -> tuple[str, tuple[int, ...]]:
    found = parse_id(name)
    assert found is not None
    return found


GROUPINGS: dict[str, Callable[[Row], str]] = {
    "kind of map": kind_of,
    "coarsest stage in a mutant": coarsest_of,
    "number of stages in a mutant": arity_of,
}


def grouped(rows: Iterable[Row], group: Callable[[Row], str], key: str) -> Found:
    """Average over the maps of a group, in each run, look and batch."""
    cells: dict[tuple[str, float, str, str], list[float]] = {}
    for row in rows:
        if not row[key]:  # not logged
            continue
        cell = (group(row), float(row["progress"]), row["seed"], row["batch"])
        cells.setdefault(cell, []).append(float(row[key]))
    found: dict[str, dict[float, list[float]]] = {}
    for (name, progress, _, _), values in sorted(cells.items()):
        found.setdefault(name, {}).setdefault(progress, []).append(statistics.fmean(values))
    return found


def tables(rows: Sequence[Row], key: str) -> dict[str, Found]:
    """Group the rows of one strategy in every way."""
    maps = [row for row in rows if row["map"] not in SUMS]
    mutants = [row for row in maps if named(row["map"])[0] != "original"]
    found = {title: grouped(maps if group is kind_of else mutants, group, key) for title, group in GROUPINGS.items()}
    return found | {"sum of maps": grouped([row for row in rows if row["map"] in SUMS], lambda row: row["map"], key)}


def table(given: argparse.Namespace) -> None:
    key = "cosine_touched" if given.touched else "cosine"
    for folder in given.folders:
        rows = read(folder / "looks.csv")
        for strategy in dict.fromkeys(row["strategy"] for row in rows):
            mine = [row for row in rows if row["strategy"] == strategy]
            seeds = len({row["seed"] for row in mine})
            print(f"\n{folder.name}, {strategy}: {key}, mean ± spread over {seeds} seeds and their batches")
            for title, found in tables(mine, key).items():
                if found:
                    print_table(title, found)


def print_table(title: str, found: Found) -> None:
    points = sorted({point for values in found.values() for point in values})
    print(f"\n| {title} | {' | '.join(f'{point:.0%}' for point in points)} |\n|{' --- |' * (len(points) + 1)}")
    for name, values in found.items():
        cells = [f"{statistics.fmean(v):+.2f} ± {spread(v):.2f}" for v in (values[point] for point in points)]
        print(f"| {name} | {' | '.join(cells)} |")


def spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def draw(given: argparse.Namespace) -> None:
    key = "cosine_touched" if given.touched else "cosine"
    titles = ("kind of map", "coarsest stage in a mutant", "sum of maps")
    figure = new_figure(4.0 * len(titles), 3.0 * len(given.folders))
    places = figure.subplots(len(given.folders), len(titles), sharex=True, sharey="row", squeeze=False)
    for folder, row_of in zip(given.folders, places, strict=True):
        rows = [row for row in read(folder / "looks.csv") if row["strategy"] == given.strategy]
        found = tables(rows, key)
        for place, title in zip(row_of, titles, strict=True):
            lines(place, found[title])
            place.set_title(f"{folder.name}, {given.strategy}: {title}", fontsize=9)
        row_of[0].set_ylabel("cosine with the held-out gradient", fontsize=8)
    for place in places[-1]:
        place.set_xlabel("part of training", fontsize=8)
    save_figure(figure, given.picture)


def lines(place: Any, found: Found) -> None:
    """Draw one line a group, with its spread over seeds and batches."""
    for name, values in found.items():
        points = sorted(values)
        means = [statistics.fmean(values[point]) for point in points]
        around = [spread(values[point]) for point in points]
        (line,) = place.plot(points, means, marker=".", label=name)
        low, high = ([m + sign * s for m, s in zip(means, around, strict=True)] for sign in (-1, 1))
        place.fill_between(points, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    place.axhline(0, color="0.7", linewidth=0.8)
    if found:
        place.legend(fontsize=7, ncols=2)


if __name__ == "__main__":
    main()
