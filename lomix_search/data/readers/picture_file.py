"""What a picture file holds: jpg, png, tif, bmp, with every value as it is stored, upright, or refused by name.

Pillow reduces some files in silence: to the first page, to 8 of 16 bits, to three of five channels. Those are refused.
Colour profiles and gamma are not applied: values are those of the file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lomix_search.data.case import Array
from lomix_search.data.readers.guard import readable, unreadable
from lomix_search.data.readers.values import NOT_FINITE
from lomix_search.errors import DataError, require

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the colour type in a PNG's header
_LOSSY_TIFF = (6, 7, 34712)  # compressions: JPEG, old and new, and JPEG 2000
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _FORMAT = 258, 259, 262, 277, 339  # TIFF tags
_SIGNED, _FLOAT = 2, 3  # TIFF sample formats


@dataclass(frozen=True)
class Stored:
    """The content of a picture file, upright.

    Args:
        kind: ``grey``: one number a pixel; ``palette``: an index; ``colour``: red, green and blue; ``converted``: the
            same, from CMYK and the like.
        values: (rows, columns), or (rows, columns, 3) of colours.
        full: What white is in a grey file of up to 8 bits (1, 3, 15 or 255); 0 where numbers have more bits.
        palette: Colour of each index, (n, 3); empty without a palette.
        alpha: (rows, columns); None without.
        lossy: Compressed as JPEG, which changes values.
        negative: A TIFF whose white is 0; values are turned round, so that they grow with brightness.
    """

    kind: Literal["grey", "palette", "colour", "converted"]
    values: Array
    full: int
    palette: NDArray[np.uint8]
    alpha: Array | None
    lossy: bool
    negative: bool

    @property
    def depth(self) -> str:
        """The type of its numbers in words; pictures of one dataset share it."""
        if self.kind != "grey" or self.full:
            return "8 bit"
        kind = "floats" if self.values.dtype.kind == "f" else "integers"
        return f"{kind} of {8 * self.values.dtype.itemsize} bits"


@dataclass(frozen=True)
class _Facts:
    bits: int
    channels: int
    sample: int
    negative: bool
    lossy: bool


def read_stored(path: Path) -> Stored:
    """Read a picture file.

    Args:
        path: Any format of ``SUFFIXES``; what counts is the content, not the ending.

    Returns:
        What it holds, turned upright as its EXIF orientation says.

    Raises:
        DataError: it cannot be read, is too large, holds several pages, or more bits or channels than Pillow gives.
    """
    with _opened(path) as (picture, ops):
        if (frames := getattr(picture, "n_frames", 1)) > 1:
            raise DataError(
                f"{path} holds {frames} pages or frames; a file must hold one picture.",
                hint=f'magick "{path}" "{path.with_suffix("")}_%d.png"   # one file a page; then keep those you mean',
            )
        return _page(path, picture, ops)


def read_pages(path: Path) -> list[Stored]:
    """Read all pages of a TIFF.

    Args:
        path: The file.

    Returns:
        What each page holds.

    Raises:
        DataError: as :func:`read_stored`.
    """
    pages = []
    with _opened(path) as (picture, ops):
        for number in range(getattr(picture, "n_frames", 1)):
            picture.seek(number)
            pages.append(_page(path, picture, ops))
    return pages


def count_pages(path: Path) -> int:
    """Return how many pages or frames a picture file has; 0 where it cannot be read."""
    try:
        with _opened(path) as (picture, _):
            return int(getattr(picture, "n_frames", 1))
    except DataError:
        return 0


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture of 8 bits as RGB; a grey one has three equal channels.

    Args:
        path: Its file.

    Returns:
        (3, rows, columns).

    Raises:
        DataError: it cannot be read, has more than 8 bits, or transparent pixels.
    """
    stored = read_stored(path)
    if stored.depth != "8 bit":
        raise DataError(
            f"{path}: a picture of {stored.depth}; pictures of 8 bits are needed here.",
            seen=f"values {stored.values.min():g} … {stored.values.max():g}",
            hint="lomix new FOLDER --images IMAGES --masks MASKS   # scales by the range of all your pictures",
        )
    return _rgb(stored, path)


def read_intensities(path: Path) -> tuple[Array, str]:
    """Read a picture of any depth.

    Args:
        path: Its file.

    Returns:
        (3, rows, columns) uint8, or (1, rows, columns) of wider numbers as stored; and the type in words, ``8 bit`` for
        the former.

    Raises:
        DataError: it cannot be read, has transparent pixels, or NaN or infinite values.
    """
    stored = read_stored(path)
    if stored.depth == "8 bit":
        return _rgb(stored, path), stored.depth
    if not np.isfinite(stored.values).all():
        raise DataError(f"{path}: NaN or infinite intensities.", hint=NOT_FINITE)
    _check_opaque(stored, path)
    return stored.values[None], stored.depth


def _rgb(stored: Stored, path: Path) -> NDArray[np.uint8]:
    _check_opaque(stored, path)
    if stored.kind == "grey":
        grey = (stored.values.astype(np.uint16) * (255 // stored.full)).astype(np.uint8)
        return np.repeat(grey[None], 3, 0)
    colours = stored.palette[stored.values] if stored.kind == "palette" else stored.values
    return np.ascontiguousarray(colours.transpose(2, 0, 1), np.uint8)


def _check_opaque(stored: Stored, path: Path) -> None:
    if stored.alpha is not None and (stored.alpha != 255).any():
        raise DataError(
            f"{path}: {np.mean(stored.alpha != 255):.0%} of its pixels are transparent; what lies behind is not known.",
            hint=f'magick "{path}" -background black -flatten "{path.with_suffix("")}_flat.png"',
        )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a picture; give it and what turns it upright."""
    pil, ops = require("PIL.Image", "data"), require("PIL.ImageOps", "data")
    # By handle: what Pillow 13 maps by its path, a bare TIFF that lies on its side, comes out scrambled.
    guard = readable(path, too_large="cut it and its mask into tiles")
    with guard, _pillows_faults_in_words(path, pil), path.open("rb") as file, pil.open(file) as picture:
        yield picture, ops


def _page(path: Path, picture: Any, ops: Any) -> Stored:
    facts = _facts(path, picture)
    _check(path, picture, facts)
    picture.load()
    return _stored(path, ops.exif_transpose(picture), facts)


# -- what Pillow does not tell -----------------------------------------------------------------------------------------


def _facts(path: Path, picture: Any) -> _Facts:
    if picture.format == "TIFF":
        tags = picture.tag_v2
        bits, sample = tags.get(_BITS, (1,)), tags.get(_FORMAT, (1,))
        compression, negative = tags.get(_COMPRESSION, 1), tags.get(_PHOTOMETRIC, 1) == 0
        return _Facts(max(bits), int(tags.get(_SAMPLES, 1)), max(sample), negative, compression in _LOSSY_TIFF)
    if picture.format == "PNG":
        with path.open("rb") as file:
            header = file.read(26)
        return _Facts(header[24], _PNG_CHANNELS.get(header[25], 1), 1, False, False)
    return _Facts(1 if picture.mode == "1" else 8, len(picture.getbands()), 1, False, picture.format in ("JPEG", "MPO"))


def _check(path: Path, picture: Any, facts: _Facts) -> None:
    """Refuse what Pillow would reduce."""
    if facts.channels > 1 and facts.bits > 8:
        raise DataError(
            f"{path}: {facts.channels} channels of {facts.bits} bits each; Pillow would drop the lower bits.",
            hint="save one channel of 16 bits, or three of 8 bits, to a new file",
        )
    if facts.channels > len(picture.getbands()):
        raise DataError(
            f"{path}: {facts.channels} channels, of which {len(picture.getbands())} would be read.",
            hint="save the channels that you mean, one or three, to a new file",
        )
    if facts.negative and facts.sample == _FLOAT:
        raise DataError(
            f"{path}: white is 0 in this TIFF of floats; what black is, is not known.",
            hint="save it as a TIFF in which black is 0",
        )


def _stored(path: Path, picture: Any, facts: _Facts) -> Stored:
    mode, values = picture.mode, np.asarray(picture)
    none = np.zeros((0, 3), np.uint8)
    if mode in ("CMYK", "YCbCr", "HSV"):
        return Stored("converted", np.asarray(picture.convert("RGB")), 255, none, None, facts.lossy, False)
    if mode in ("1", "L", "I", "F") or mode.startswith("I;16"):
        grey, full = _numbers(values, mode, facts)
        return Stored("grey", grey, full, none, _marked(grey, picture), facts.lossy, facts.negative)
    if mode == "LA":
        return Stored("grey", values[..., 0], 255, none, values[..., 1], facts.lossy, facts.negative)
    if mode in ("P", "PA"):
        index, palette = values if mode == "P" else values[..., 0], _palette(picture)
        if int(index.max(initial=0)) >= len(palette):
            raise DataError(
                f"{path}: index {index.max()} has no colour; the palette has {len(palette)}.",
                hint="save it anew, as class numbers or in colours",
            )
        alpha = _alpha_of(picture, len(palette))[index] if mode == "P" else values[..., 1]
        return Stored("palette", index, 255, palette, alpha, facts.lossy, False)
    if mode in ("RGB", "RGBA"):
        alpha = values[..., 3] if mode == "RGBA" else _marked(values, picture)
        return Stored("colour", values[..., :3], 255, none, alpha, facts.lossy, False)
    raise DataError(f"{path}: a picture of Pillow's mode {mode}, which is not read.", hint="save it as RGB or grey")


def _numbers(values: Array, mode: str, facts: _Facts) -> tuple[Array, int]:
    """Return the numbers as the file has them, and what white is if they have up to 8 bits."""
    if mode in ("1", "L") and facts.sample != _SIGNED:
        full = 2 ** min(facts.bits, 8) - 1
        return (values.astype(np.uint8) // (255 // full if mode == "L" else 1)), 1 if mode == "1" else full
    if mode == "L":
        return values.view(np.int8), 0
    if mode == "F":
        return values, 0
    if mode.startswith("I;16") or (facts.bits == 16 and facts.sample != _SIGNED):
        wide = values.astype(np.uint16)
        return (65535 - wide if facts.negative and wide.size else wide), 0
    if facts.bits == 16:
        return values.astype(np.int16), 0
    return (values.view(np.uint32) if facts.sample != _SIGNED else values), 0


def _palette(picture: Any) -> NDArray[np.uint8]:
    colours = np.asarray(picture.getpalette("RGB") or [], np.uint8)
    return colours[: len(colours) // 3 * 3].reshape(-1, 3)


def _alpha_of(picture: Any, count: int) -> NDArray[np.uint8]:
    """Return the opacity of each index of a palette."""
    alpha, found = np.full(count, 255, np.uint8), picture.info.get("transparency")
    if isinstance(found, int) and found < count:
        alpha[found] = 0
    elif isinstance(found, bytes):
        alpha[: len(found)] = np.frombuffer(found, np.uint8)[:count]
    return alpha


def _marked(values: Array, picture: Any) -> Array | None:
    """Return the alpha of a file that names one value or colour as transparent."""
    found = picture.info.get("transparency")
    if found is None:
        return None
    same = values == found if values.ndim == 2 else (values == np.asarray(found)).all(-1)
    return np.where(same, 0, 255).astype(np.uint8)


@contextmanager
def _pillows_faults_in_words(path: Path, pil: Any) -> Iterator[None]:
    """Say what two faults mean that Pillow alone has: it opens no file of so many pixels, or none of this kind."""
    try:
        yield
    except (pil.DecompressionBombError, pil.DecompressionBombWarning) as cause:
        raise DataError(
            f"{path} has more pixels than Pillow opens.",
            seen=str(cause),
            hint=f'magick "{path}" -crop 4096x4096 +repage "{path.with_suffix("")}_%02d.png"   # and its mask alike',
        ) from None
    except pil.UnidentifiedImageError as cause:
        other = "or, if other programs open it, save it as PNG or TIFF of 8 or 16 bits, or of 32-bit floats"
        raise unreadable(path, cause, other) from None
