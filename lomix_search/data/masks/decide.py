"""What the masks of a dataset mean: one decision for all its files, from their own types, ranges and values.

Two values are a binary mask whatever they are, the lower one its background. More are class numbers as stored. Colours
are classes, black the background; they are read as numbers where all are grey or lie in one channel. A palette's index
is the number unless its colours say the opposite. Refused: values that lie only between others at edges, or are noise,
or are more than classes can be, unless the user says what they mean.
"""

from collections.abc import Sequence
from dataclasses import replace

from lomix_search.data.masks.all_masks import AllMasks, how_to_read
from lomix_search.data.masks.binary import ASKED_SHARE, SOFT_SHARE, binary_coding, halved_coding, is_soft, united_coding
from lomix_search.data.masks.classes import check_classes, class_coding
from lomix_search.data.masks.coding import Coding
from lomix_search.data.masks.mask_file import MaskSummary
from lomix_search.errors import DataError


def decide(
    seen: Sequence[MaskSummary],
    *,
    binary: bool = False,
    united: bool = False,
    named: int = 0,
    ignore: int | None = None,
) -> Coding:
    """Decide what the masks of a dataset mean.

    Args:
        seen: All masks.
        binary: They are known to be binary: a single value other than 0 is all foreground, and soft edges are cut
            halfway.
        united: Asked for: binary, and every value above the lowest is foreground.
        named: How many classes the user has named; that many values are taken as classes, whatever they look like.
        ignore: Value whose pixels count nowhere, and which says nothing of the others.

    Returns:
        The decision.

    Raises:
        DataError: values that cannot be classes, or masks that contradict each other; the first file is named.
    """
    if ignore is not None:
        if coloured := [one.path for one in seen if one.kind == "colour"]:
            raise DataError(
                f"{coloured[0]}: a mask in colours; --ignore {ignore} goes with numbers.",
                hint='lomix new … --colors "name=#ff0000,ignore=#ffffff"   # with each colour',
            )
        without = [replace(one, grains={k: g for k, g in one.grains.items() if k != ignore}) for one in seen]
        coding = decide(without, binary=binary, united=united, named=named)
        return replace(coding, ignore=ignore, said=f"{coding.said}; {ignore} counts nowhere")
    masks = AllMasks(seen, how_to_read(seen))
    if not masks.keys:
        raise DataError(
            f"{seen[0].path}: no mask holds anything but the ignored value.", hint="give the folder of masks"
        )
    if binary and len(masks.keys) > 2:
        return halved_coding(masks, SOFT_SHARE)
    if masks.how == "colour" and 0 not in masks.keys:
        raise DataError(
            f"{masks.seen[0].path}: no pixel of any mask is black; which colour is the background is not known.",
            seen=f"{len(masks.keys)} colours: {masks.shown(masks.keys)}",
            hint='lomix new … --colors "background=#ffffff,name=#ff0000,…"   # with a name for each colour',
        )
    if len(masks.keys) <= 2:
        return binary_coding(masks, united or binary)
    if united and not is_soft(masks):
        return united_coding(masks)
    if united:
        return halved_coding(masks, ASKED_SHARE)
    if named != len(masks.foreground):
        check_classes(masks)
    return class_coding(masks)
