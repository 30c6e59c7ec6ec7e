"""Masks whose values are known: a file names the label values, or the user the colours."""

from collections.abc import Mapping, Sequence

from lomix_search.data.masks.all_masks import AllMasks, how_to_read
from lomix_search.data.masks.coding import Coding
from lomix_search.data.masks.grains import StoredValue, value_in_words
from lomix_search.data.masks.mask_file import MaskSummary
from lomix_search.errors import DataError

_SHOWN = 8


def named_coding(seen: Sequence[MaskSummary], names: Mapping[int, str], ignore: int | None, said: str) -> Coding:
    """Take label values as a file names them.

    Args:
        seen: All masks.
        names: Of the label values beside 0.
        ignore: Label value that counts nowhere.
        said: The file that names them.

    Returns:
        Every label value as it is.

    Raises:
        DataError: values that the file does not name, or colours; the masks are named.
    """
    masks, known = AllMasks(seen, how_to_read(seen)), {0, *names, *([] if ignore is None else [ignore])}
    if masks.how == "colour":
        raise DataError(
            f"{next(s.path for s in seen if s.kind != 'number')}: a label in colours; {said} names numbers.",
            hint='lomix new … --colors "name=#ff0000,…"',
        )
    bad = {one.path: sorted(set(each) - known) for one, each in zip(seen, masks.each, strict=True)}
    if lines := [f"{path}: {', '.join(map(value_in_words, odd[:_SHOWN]))}" for path, odd in bad.items() if odd]:
        more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise DataError(
            f"{len(lines)} of {len(seen)} labels have values that {said} lacks.",
            seen=[*lines[:_SHOWN], *more, f"{said} has 0, " + ", ".join(f"{v} {n}" for v, n in names.items())],
            hint=f"name them in {said}, mend these labels, or leave them out: lomix new … --ignore VALUE",
        )
    counts = {value: len(masks.having([value])) for value in names}
    words = f"0 background, {', '.join(f'{v} {n}' for v, n in names.items())} ({said})"
    extra = f"; {ignore} counts nowhere" if ignore is not None else ""
    return Coding(masks.how, {v: v for v in (0, *names)}, dict(names), None, counts, words + extra, ignore)


def coloured_coding(seen: Sequence[MaskSummary], colours: Mapping[str, int]) -> Coding:
    """Take colours as the user names them.

    Args:
        seen: All masks, of colours or palettes.
        colours: 0xRRGGBB of each class, which become 1, 2, … in this order; ``background`` is 0, black if left out;
            ``ignore`` counts nowhere and comes last.

    Returns:
        A label value for each colour.

    Raises:
        DataError: masks of numbers, or colours that are not in the table; the masks are named.
    """
    masks, table = AllMasks(seen, "colour"), {"background": 0} | dict(colours)
    numbers = [one for one in seen if one.kind == "number" and set(one.grains) - {0}]
    known: dict[StoredValue, int] = {table.pop("background"): 0}
    table |= {"ignore": table.pop("ignore")} if "ignore" in table else {}
    known |= {colour: number for number, colour in enumerate(table.values(), 1)}
    lines = [f"{one.path} holds numbers, no colours" for one in numbers]
    for one, each in zip(seen, masks.each, strict=True):
        if one not in numbers and (odd := sorted(set(each) - set(known))):
            lines.append(f"{one.path}: {', '.join(f'#{int(c):06x}' for c in odd[:_SHOWN])}")
    if lines:
        more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise DataError(
            f"{len(lines)} of {len(seen)} masks do not have the colours of --colors alone.",
            seen=[*lines[:_SHOWN], *more],
            hint='--colors "background=#000000,name=#ff0000,…" with each colour of the masks',
        )
    names = {number: name for number, name in enumerate(table, 1) if name != "ignore"}
    counts = {known[table[name]]: len(masks.having([table[name]])) for name in names.values()}
    words = ", ".join(f"#{colour:06x} {name}" for name, colour in table.items())
    return Coding("colour", known, names, None, counts, f"colours {words}", known.get(table.get("ignore", -1)))
