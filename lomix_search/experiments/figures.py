"""Figures of a run: predictions beside the truth, weights over time and by map."""

import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.errors import require
from lomix_search.experiments.predictions import PredictedSlices
from lomix_search.mixture.maps import Map
from lomix_search.mixture.mixture import Mixture
from lomix_search.utils.files import write_bytes
from lomix_search.utils.terminal import telling_digits

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#666666")
"""Okabe and Ito's palette, told apart by colour-blind readers too."""


def draw_predictions(
    path: Path,
    images: NDArray[Any],
    truth: NDArray[Any],
    predictions: NDArray[Any],
    classes: Sequence[str],
    titles: Sequence[str],
    differences: NDArray[Any] | None = None,
) -> None:
    """Draw image, truth and prediction side by side, one row a slice, and a fourth column with the disagreements.

    Args:
        path: The PNG to write.
        images: (N, H, W), any range.
        truth: (N, H, W) class indices.
        predictions: (N, H, W) class indices.
        classes: Names, background first.
        titles: One a row.
        differences: (N, H, W), above 0 where the two differ; where class indices do, when left out.
    """
    rows, patch = len(images), require("matplotlib.patches", "plot").Patch
    figure = new_figure(11, 2.75 * rows + 0.8)
    axes = figure.subplots(rows, 4, squeeze=False)
    for row, title in zip(range(rows), titles, strict=True):
        counted = truth[row] < len(classes)  # else a label that is ignored
        differ = truth[row] != predictions[row] if differences is None else differences[row] > 0
        wrong = np.where(counted & differ, 1.0, np.nan)
        for column, overlay in enumerate((None, truth[row], predictions[row], None)):
            axis = axes[row, column]
            axis.imshow(images[row], cmap="gray", interpolation="nearest")
            if overlay is not None:
                axis.imshow(_coloured(overlay, len(classes)), interpolation="nearest")
            if column == 3:
                axis.imshow(wrong, cmap="autumn", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        axes[row, 0].set_ylabel(_beside(title))
    for axis, name in zip(axes[0], ("image", "truth", "prediction", "where they differ"), strict=True):
        axis.set_title(name)
    shown = [f" {name}" if name.startswith("_") else name for name in classes]  # matplotlib leaves out names with _
    patches = [patch(color=OKABE_ITO[(i - 1) % len(OKABE_ITO)], label=name) for i, name in enumerate(shown) if i]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches)), frameon=False)
    save_figure(figure, path)


def _beside(title: str) -> str:
    """Shorten the name of an item to what fits beside its row: the case without its folder, in three lines at most."""
    return "\n".join(textwrap.wrap(title.rpartition(": ")[2], 30)[-3:])


def draw_seen(path: Path, seen: PredictedSlices, noun: str = "") -> None:
    """Draw what a network made of some slices.

    Args:
        path: The PNG to write.
        seen: The slices.
        noun: Call them by this word and a number rather than by their names.
    """
    grey = seen.images if seen.images.ndim == 3 else seen.images.mean(-1)
    titles = [f"{noun} {i}" for i in range(1, len(seen.names) + 1)] if noun else seen.names
    shown = seen.painted()
    draw_predictions(path, grey, shown.truth, shown.predictions, shown.classes, titles, seen.differences())


def draw_weights(path: Path, mixture: Mixture, history: Sequence[Mapping[str, Any]]) -> None:
    """Draw the weights over the steps, and the final ones by operator and subset.

    Args:
        path: The PNG to write.
        mixture: What was found.
        history: Lines of metrics.jsonl; those with ``mixture/weights`` are drawn.
    """
    lines = [line for line in history if "mixture/weights" in line]
    steps = [line["step"] for line in lines]
    values = np.array([line["mixture/weights"] for line in lines], dtype=float).reshape(len(lines), -1)
    tall = _heat_size(mixture)[1]
    figure = new_figure(max(11.0, _heat_size(mixture)[0]), 4.4 + tall)
    above, below = figure.subfigures(2, 1, height_ratios=(4.4, tall))
    left, right = above.subplots(1, 2)
    _trajectories(left, mixture, steps, values)
    left.set(ylabel="loss weight", title="weights during the search")
    with np.errstate(invalid="ignore", divide="ignore"):
        _trajectories(right, mixture, steps, 100 * (values / np.nanmean(values, axis=1, keepdims=True) - 1))
    right.axhline(0, color="#999999", lw=0.8, zorder=0)
    right.set(ylabel="% above the mean of all maps", title="the same, against their mean")
    kinds = [right.plot([], [], color=_colour(mixture, kind), lw=3, label=kind)[0] for kind in _operators(mixture)]
    above.legend(handles=kinds, loc="outside lower center", ncols=len(kinds), frameon=False)
    _heat_map(below, below.subplots(), mixture)
    spread = mixture.concentration()
    figure.suptitle(
        f"{mixture.space.name} by {mixture.weighting}: {len(mixture.maps)} maps, "
        f"sum of weights {spread.total:.3g}, {spread.effective_maps:.1f} effective maps"
    )
    save_figure(figure, path)


def draw_heat_map(path: Path, mixture: Mixture) -> None:
    """Draw the found weights by operator and subset.

    Args:
        path: The PNG to write.
        mixture: What was found.
    """
    figure = new_figure(*_heat_size(mixture))
    _heat_map(figure, figure.subplots(), mixture)
    save_figure(figure, path)


def written(mixture: Mixture) -> dict[str, str]:
    """Return every weight with as many digits as it takes to see that they differ, three to five."""
    digits = telling_digits(mixture.weights.values())
    return {name: f"{weight:.{digits}f}" for name, weight in mixture.weights.items()}


def _trajectories(axis: Any, mixture: Mixture, steps: Sequence[int], values: NDArray[np.float64]) -> None:
    """Draw one line a map, framed on the lines; those of the originals are wide and lie behind the others."""
    for i, m in enumerate(maps_of(mixture)):
        wide = {"lw": 2.6, "alpha": 0.9} if m.operator == "original" else {"lw": 0.9, "alpha": 0.75}
        axis.plot(steps, values[:, i], color=_colour(mixture, m.operator), **wide)
    axis.set(xlabel="step (wide lines: originals)")
    axis.locator_params(axis="x", integer=True)
    axis.spines[["top", "right"]].set_visible(False)


def _colour(mixture: Mixture, operator: str) -> str:
    return OKABE_ITO[_operators(mixture).index(operator) % len(OKABE_ITO)]


_ACROSS = 16  # subsets that fit across a page; more run down


def _heat_size(mixture: Mixture) -> tuple[float, float]:
    """Return width and height of the weights by operator and subset, in inches."""
    operators, subsets = len(_operators(mixture)), len(_subsets(mixture))
    if subsets <= _ACROSS:
        return max(9.0, 2.5 + 0.62 * subsets), 1.6 + 0.5 * operators
    return max(9.0, 2.5 + operators), 1.6 + 0.24 * subsets


def _heat_map(figure: Any, axis: Any, mixture: Mixture) -> None:
    operators, subsets, shown = _operators(mixture), _subsets(mixture), written(mixture)
    table = np.full((len(operators), len(subsets)), np.nan)
    names = np.full(table.shape, "", dtype=object)
    for m in maps_of(mixture):
        place = operators.index(m.operator), subsets.index(m.scales)
        table[place], names[place] = mixture.weights[m.id], shown[m.id]
    stages = [",".join(map(str, scales)) for scales in subsets]
    across = len(subsets) <= _ACROSS
    table, names = (table, names) if across else (table.T, names.T)
    picture = axis.imshow(table, cmap="viridis", aspect="auto")
    middle = (np.nanmin(table) + np.nanmax(table)) / 2
    for (row, column), weight in np.ndenumerate(table):
        if not np.isnan(weight):
            shade = "black" if weight > middle else "white"
            axis.text(column, row, names[row, column], ha="center", va="center", fontsize=7.5, color=shade)
    down, over = (operators, stages) if across else (stages, operators)
    axis.set_yticks(range(len(down)), down)
    axis.set_xticks(range(len(over)), over)
    which = f"stages fused (1 coarsest, {mixture.num_maps} finest)"
    axis.set(**{"xlabel" if across else "ylabel": which}, title="weights found")
    figure.colorbar(picture, ax=axis, shrink=0.85, pad=0.01)


def _coloured(labels: NDArray[Any], classes: int) -> NDArray[Any]:
    """Return (H, W, 4): each class in its colour, the background transparent."""
    table = [(0.0, 0.0, 0.0, 0.0)]
    for i in range(1, classes):
        code = OKABE_ITO[(i - 1) % len(OKABE_ITO)]
        red, green, blue = (int(code[j : j + 2], 16) / 255 for j in (1, 3, 5))
        table.append((red, green, blue, 0.62))
    picture: NDArray[Any] = np.array(table)[np.where(labels < classes, labels, 0)]
    return picture


def maps_of(mixture: Mixture) -> list[Map]:
    """Return the maps of a mixture, in the order of its weights."""
    known = {m.id: m for m in mixture.space.maps(mixture.num_maps)}
    return [known[m.id] for m in mixture.maps]


def _operators(mixture: Mixture) -> list[str]:
    return list(dict.fromkeys(m.operator for m in maps_of(mixture)))


def _subsets(mixture: Mixture) -> list[tuple[int, ...]]:
    return sorted({m.scales for m in maps_of(mixture)}, key=lambda scales: (len(scales), scales))


def new_figure(width: float, height: float) -> Any:
    """Return a figure of its own, in inches; pyplot's state and the user's back end are left alone."""
    return require("matplotlib.figure", "plot").Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure so that there is never half of one; the format follows from the ending.

    Names of classes and cases are shown as they are: a dollar in them begins no formula.
    """
    for text in figure.findobj(require("matplotlib.text", "plot").Text):
        text.set_parse_math(False)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box is shown
        figure.savefig(content, dpi=130, format=path.suffix[1:])
    write_bytes(path, content.getvalue())
