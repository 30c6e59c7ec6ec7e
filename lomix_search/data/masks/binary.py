"""Binary masks: two values, soft edges between them, or many values that are one foreground."""

from collections.abc import Sequence

from lomix_search.data.masks.all_masks import AllMasks
from lomix_search.data.masks.coding import Coding
from lomix_search.data.masks.grains import HIGHEST, StoredValue, summed
from lomix_search.errors import DataError

_NEAR = 1 / 8  # of the range: what is nearer to an end than this is black or white
SOFT_SHARE = 0.05  # this share of the pixels may lie between black and white, as soft edges
ASKED_SHARE = 0.25  # the same where the user says that all masks are binary: small objects are mostly edge
_LOOSE = 0.8  # share of the pixels beside the two main values that lie loose in a binary mask with soft edges
_CONTRAST = 128  # a JPEG of at least this range of values is black and white


def binary_coding(masks: AllMasks, known: bool) -> Coding:
    """Masks of two values, or of one."""
    keys = masks.keys
    if len(keys) == 1 and keys[0] != 0 and not known:
        raise DataError(
            f"{masks.seen[0].path}: every mask is {masks.shown(keys)} all over; there is no background.",
            hint="give the folder of masks, not of images; or leave out what is all foreground",
        )
    low, high = (0, keys[0]) if len(keys) == 1 else (keys[0], keys[1])
    if low == high:
        return Coding(masks.how, {0: 0}, {}, None, {}, "all masks are empty")
    said = f"{masks.shown([low])} background, {masks.shown([high])} foreground"
    return _foreground(masks, {low: 0, high: _label(masks, high)}, None, said)


def _label(masks: AllMasks, high: StoredValue) -> int:
    """Return the label value of the foreground: what is stored, where that can be one."""
    return int(high) if masks.how != "colour" and 0 < high <= HIGHEST and high == int(high) else 1


def united_coding(masks: AllMasks) -> Coding:
    """Masks of many values, all of them but the background one foreground."""
    background = 0 if masks.how == "colour" else masks.keys[0]
    count = len(masks.keys) - 1
    said = f"{masks.shown([background])} background, {count} other values one foreground, as asked for"
    return _foreground(masks, {key: int(key != background) for key in masks.keys}, None, said)


def halved_coding(masks: AllMasks, most: float) -> Coding:
    """Binary masks with soft edges, which cover at most this share of the pixels."""
    low, high = masks.keys[0], masks.keys[-1]
    path = masks.having([high])[0]
    if masks.how == "colour":
        raise DataError(
            f"{path}: an RGB mask in colours; a mask has one channel.",
            seen=f"{len(masks.keys)} colours",
            hint="convert every colour to a class number and save one channel",
        )
    black, white = (0, 255) if low >= 0 and _CONTRAST <= high <= 255 else (low, high)
    middle = [k for k in masks.keys if _NEAR < (k - black) / (white - black) < 1 - _NEAR]
    share = sum(masks.total[k].pixels for k in middle) / sum(grain.pixels for grain in masks.total.values())
    if share > most or not is_soft(masks):
        grey = f"{share:.0%} of its pixels are neither black nor white"
        raise DataError(
            f"{path}: not a binary mask: {grey if share > most else f'it has {len(masks.keys)} values'}.",
            seen=f"{len(masks.keys)} values, {low:g} … {high:g}",
            hint=[
                "save masks as PNG with the values 0 and 255, to a new folder; of masks that number their objects:",
                "PIL.Image.fromarray((numpy.asarray(PIL.Image.open(OLD)) > 0).astype('uint8') * 255).save(NEW)",
            ],
        )
    half = (low + high) / 2
    said = f"soft edges of {len(masks.keys)} values, {low:g} … {high:g}, cut at {half:g}"
    return _foreground(masks, {key: _label(masks, high) * (key > half) for key in masks.keys}, half, said)


def _foreground(masks: AllMasks, labels: dict[StoredValue, int], cut: float | None, said: str) -> Coding:
    label, having = max(labels.values()), masks.having(key for key, value in labels.items() if value)
    return Coding(masks.how, labels, {label: "foreground"}, cut, {label: len(having)}, said)


def is_soft(masks: AllMasks) -> bool:
    """Whether nearly all pixels beside the two main values lie loose, as at soft edges and in noise."""
    half = (masks.keys[0] + masks.keys[-1]) / 2
    if masks.noisy:
        return masks.keys[-1] - masks.keys[0] >= _CONTRAST
    main = [max(side, key=lambda k: masks.total[k].pixels) for side in _sides(masks.keys, half)]
    others = summed([grain for key, grain in masks.total.items() if key not in main])
    return masks.how != "colour" and others.loose >= _LOOSE * others.pixels


def _sides(keys: Sequence[StoredValue], half: float) -> tuple[list[StoredValue], list[StoredValue]]:
    return [k for k in keys if k <= half], [k for k in keys if k > half]
