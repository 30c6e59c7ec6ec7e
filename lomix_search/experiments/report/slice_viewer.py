"""Predictions to look through: image, truth, prediction and where they differ, one slice at a time."""

import base64
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lomix_search.experiments.predictions import IGNORED, PredictedSlices
from lomix_search.experiments.report.html_parts import json_script, number, text

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A33A", "#999999")
"""Okabe and Ito's colours, told apart by colour-blind readers too."""
_DIFFERENCES = {"missed": "#FFE14D", "added": "#35E0FF", "another class": "#FF4FC4"}


def viewer(seen: PredictedSlices) -> str:
    """Return the slices with a slider.

    Args:
        seen: What a network saw.

    Returns:
        HTML; the first picture shown, that with the most foreground, needs no script.
    """
    shown = seen.painted()
    start = int(((shown.truth > 0) & (shown.truth != IGNORED)).sum((1, 2)).argmax())
    masks = {"truth": shown.truth, "prediction": shown.predictions}
    layers = {name: [_overlay(mask, PALETTE) for mask in array] for name, array in masks.items()}
    layers["difference"] = [_overlay(mask, list(_DIFFERENCES.values())) for mask in seen.differences()]
    layers["image"] = [uri(image) for image in seen.images]
    notes = [_note(truth, prediction) for truth, prediction in zip(seen.truth, seen.predictions, strict=True)]
    titles = {"image": "image", "truth": "truth", "prediction": "prediction", "difference": "where they differ"}
    panes = "".join(_pane(key, title, layers, start) for key, title in titles.items())
    last = len(seen.names) - 1
    slider = (
        f'<label>slice<input type="range" class="slice" min="0" max="{last}" value="{start}" step="1" '
        f'aria-valuetext="{text(seen.names[start])}"></label>'
    )
    opacity = '<label>overlay<input type="range" class="opacity" min="0" max="100" value="65" step="5"></label>'
    keys = [_key(name, PALETTE[i % len(PALETTE)]) for i, name in enumerate(seen.foreground)]
    keys += ["<li class='break'></li>", *(_key(name, colour) for name, colour in _DIFFERENCES.items())]
    height, width = seen.truth.shape[-2:]
    pixelated = " pixelated" if max(height, width) < 400 else ""
    return (
        f'<figure class="viewer{pixelated}"><div class="panes" style="--ratio:{width}/{height}">{panes}</div>'
        f'<p class="name"><output>{text(seen.names[start])}</output> <small>{text(notes[start])}</small></p>'
        f'<div class="sliders">{slider if last else ""}{opacity}</div><ul class="legend">{"".join(keys)}</ul>'
        f"{json_script({'names': seen.names, 'notes': notes, **layers})}</figure>"
    )


def uri(pixels: NDArray[np.uint8], palette: Sequence[tuple[int, int, int, int]] = ()) -> str:
    """Write a picture as the address of a PNG that is in the address itself.

    Args:
        pixels: (H, W) grey or numbers of the palette, or (H, W, 3) colours; uint8.
        palette: Red, green, blue and opacity of each number.

    Returns:
        ``data:image/png;base64,…``
    """
    height, width = pixels.shape[:2]
    kind = 2 if pixels.ndim == 3 else 3 if palette else 0
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if palette:
        parts += [(b"PLTE", b"".join(bytes(c[:3]) for c in palette)), (b"tRNS", bytes(c[3] for c in palette))]
    parts += [(b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    packed = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    return f"data:image/png;base64,{base64.b64encode(packed).decode()}"


def _overlay(mask: NDArray[np.uint8], colours: Sequence[str]) -> str:
    """Return a class map as a picture whose background is transparent; ignored pixels too."""
    shown = np.where(mask == IGNORED, 0, mask)
    numbers = np.where(shown > 0, (shown.astype(int) - 1) % len(colours) + 1, 0).astype(np.uint8)
    table = [(0, 0, 0, 0), *((*(int(colour[i : i + 2], 16) for i in (1, 3, 5)), 255) for colour in colours)]
    return uri(numbers, table)  # type: ignore[arg-type]


def _pane(key: str, title: str, layers: dict[str, list[str]], start: int) -> str:
    above = f'<img class="over" data-layer="{key}" alt="" src="{layers[key][start]}">' if key != "image" else ""
    below = f'<img data-layer="image" alt="{text(title)}" src="{layers["image"][start]}">'
    return f'<div class="pane"><h4>{text(title)}</h4><div class="stack">{below}{above}</div></div>'


def _key(name: str, colour: str) -> str:
    return f'<li><i style="background:{colour}"></i>{text(name)}</li>'


def _note(truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> str:
    """Say in one line how well a slice was met: mean Dice over the classes, or regions, that are there."""
    pairs = (
        _masks(truth, prediction) if truth.ndim == 2 else zip(truth == 1, (prediction == 1) & (truth <= 1), strict=True)
    )
    dice = [2 * (one & other).sum() / (one.sum() + other.sum()) for one, other in pairs if one.any() or other.any()]
    return (
        f"mean Dice of this slice {number(float(np.mean(dice)))}" if dice else "nothing to find here, and nothing found"
    )


def _masks(truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    counted = truth != IGNORED
    for c in np.unique([truth, prediction]):
        if 0 < c < IGNORED:
            yield truth[counted] == c, prediction[counted] == c
